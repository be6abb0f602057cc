"""Fields of the body that are missing, of the wrong type, too long, or almost valid."""

from tests.system.hostile.requests import CUSTOMER_ID, REDEEM, REDEMPTION_ID, Hostile, body, reversal

REDEMPTION_IDS = {
    "null": ("null", 887),
    "an empty string": ('""', 887),
    "65 characters": ('"' + "R" * 65 + '"', 887),
    "60,000 characters": ('"' + "R" * 60_000 + '"', 887),
    "true": ("true", 887),
    "an array": (f'["{REDEMPTION_ID}"]', 887),
    "an object": ('{"$ne":null}', 887),
    "a NUL at the end": (f'"{REDEMPTION_ID}\\u0000"', 887),
    "half a surrogate pair": ('"\\ud83d"', 887),
    "the halves of a surrogate pair in the wrong order": ('"\\udca9\\ud83d"', 887),
    "a whole surrogate pair": ('"\\ud83d\\udca9"', 804),
    "64 characters that name no redemption": ('"' + "R" * 64 + '"', 804),
    "a number with an exponent": ("1e400", 804),
    "lower case": (f'"{REDEMPTION_ID.lower()}"', 804),
    "full-width digits": ('"R４１４５３２３９２３１"', 804),
    "an SQL condition": ('"\' OR 1=1 --"', 804),
    "an SQL pattern": ('"R%"', 804),
    "right-to-left text": ('"\\u202e132932354 14R"', 804),
}
IDENTIFIERS = {
    "null": ("null", 887),
    "a string": (f'"{CUSTOMER_ID}"', 887),
    "an array": (f'[{{"type":"ID","value":"{CUSTOMER_ID}"}}]', 887),
    "an empty object": ("{}", 887),
    "no type": (f'{{"value":"{CUSTOMER_ID}"}}', 887),
    "a type that is null": (f'{{"type":null,"value":"{CUSTOMER_ID}"}}', 887),
    "a type that is a number": (f'{{"type":1,"value":"{CUSTOMER_ID}"}}', 887),
    "a type that is an array": (f'{{"type":["ID"],"value":"{CUSTOMER_ID}"}}', 887),
    "an unknown type": (f'{{"type":"ANY","value":"{CUSTOMER_ID}"}}', 887),
    "a type with a dotless i": (f'{{"type":"ıd","value":"{CUSTOMER_ID}"}}', 887),
    "a type of 60,000 characters": ('{"type":"' + "I" * 60_000 + f'","value":"{CUSTOMER_ID}"}}', 887),
    "no value": ('{"type":"ID"}', 887),
    "a value that is null": ('{"type":"ID","value":null}', 887),
    "a value that is empty": ('{"type":"ID","value":""}', 887),
    "a value that is true": ('{"type":"ID","value":true}', 887),
    "a value that is an object": ('{"type":"ID","value":{}}', 887),
    "a value with a NUL": (f'{{"type":"ID","value":"{CUSTOMER_ID}\\u0000"}}', 887),
    "a key twice": (f'{{"type":"ID","value":"1","value":"{CUSTOMER_ID}"}}', 887),
    "a negative value": (f'{{"type":"ID","value":-{CUSTOMER_ID}}}', 804),
    "a value with a decimal": (f'{{"type":"ID","value":{CUSTOMER_ID}.0}}', 804),
    "a value with an exponent": ('{"type":"ID","value":564000111e0}', 804),
    "a value with a leading zero": (f'{{"type":"ID","value":"0{CUSTOMER_ID}"}}', 804),
    "a value in Arabic digits": ('{"type":"ID","value":"٥٦٤٠٠٠١١١"}', 804),
    "a value beyond 63 bits": ('{"type":"ID","value":9223372036854775808}', 804),
    "a value of the id plus 2**64": (f'{{"type":"ID","value":{CUSTOMER_ID + 2**64}}}', 804),
    "a value of 60,000 digits": ('{"type":"ID","value":' + "9" * 60_000 + "}", 804),
    "an empty mobile number": ('{"type":"MOBILE","value":"+"}', 804),
    "a mobile number of 60,000 digits": ('{"type":"MOBILE","value":"' + "9" * 60_000 + '"}', 804),
    "a mobile number of 60,000 plus signs": ('{"type":"MOBILE","value":"' + "+" * 60_000 + '"}', 804),
    "a mobile number of 40 signs": ('{"type":"MOBILE","value":"' + "+()-. 1" * 5 + '"}', 804),
    "an email that grows in lower case": ('{"type":"EMAIL","value":"' + "İ" * 20_000 + '"}', 804),
    "an external id of emoji": ('{"type":"EXTERNAL_ID","value":"' + "💩" * 10_000 + '"}', 804),
    "a card number with an SQL condition": ('{"type":"CARD_NUMBER","value":"1\' OR \'1\'=\'1"}', 804),
    "a card's external id with a shell command": ('{"type":"CARD_EXTERNAL_ID","value":"$(id); `id` {{7*7}}"}', 804),
    "a type in mixed case with underscores": (f'{{"type":"_i_D_","value":"{CUSTOMER_ID}"}}', None),
    "a value that is a number": (f'{{"type":"ID","value":{CUSTOMER_ID}}}', None),
}
OTHER_MEMBERS = {
    "both a redemption id and a reference number": (',"externalReferenceNumber":"ORD-1"', 887),
    "a reference number of 129 characters": (',"externalReferenceNumber":"' + "1" * 129 + '"', 887),
    "another program than the redemption's": (',"programId":987654321', 885),
    "a program that is not a number": (',"programId":"973; DROP TABLE"', 885),
    "a program of 65 digits": (',"programId":' + "9" * 65, 887),
    "a program that is true": (',"programId":true', 887),
    "a key twice, once as an escape": (',"redemption\\u0049d":"R1"', 887),
    "a key twice in an unknown member": (',"note":[[{"a":1,"a":2}]]', 887),
    "an unknown member with a NUL": (',"note":"\\u0000"', 887),
    "a key with half a surrogate pair": (',"\\udfff":1', 887),
    "NaN in an unknown member": (',"note":NaN', 887),
    "a key in another case": (',"RedemptionId":"R1","points":-1', None),
    "members with a meaning in other languages": (',"__proto__":{"a":1},"__class__":"x","$ref":"#"', None),
    "an escaped backslash before u0000": (',"note":"\\\\u0000"', None),
    "a number of 60,000 digits in an unknown member": (',"note":' + "9" * 60_000, None),
    "5,000 unknown members": ("".join(f',"m{number}":0' for number in range(5_000)), None),
    "5,000 members, the last one twice": ("".join(f',"m{number % 4_999}":0' for number in range(5_000)), 887),
}
REDEEMED = {
    "no points": ("{}", 887),
    "points that are null": ('{"points":null}', 887),
    "a commit that is a string": ('{"points":1,"commit":"false"}', 887),
    "a commit that is a number": ('{"points":1,"commit":0}', 887),
    "a transaction number of 129 characters": ('{"points":1,"transactionNumber":"' + "1" * 129 + '"}', 887),
    "a transaction number that is an array": ('{"points":1,"transactionNumber":[]}', 887),
    "a program that does not exist": ('{"points":1,"programId":"nothing"}', 885),
    "points twice": ('{"points":1,"points":2}', 887),
}


def _answered(name: str, sent: bytes, code: int | None) -> Hostile:
    return reversal(name, sent, 200 if code is None else 400, code)


FIELDS = [
    reversal("redemptionId: missing, without a reference number", b'{"identifier":{"type":"ID","value":"1"}}'),
    *(_answered(f"redemptionId: {name}", body(redemption=sent), code) for name, (sent, code) in REDEMPTION_IDS.items()),
    *(_answered(f"identifier: {name}", body(identifier=sent), code) for name, (sent, code) in IDENTIFIERS.items()),
    *(_answered(f"members: {name}", body(more=sent), code) for name, (sent, code) in OTHER_MEMBERS.items()),
    *(
        Hostile(f"members to redeem: {name}", 400, code, target=REDEEM, body=sent.encode())
        for name, (sent, code) in REDEEMED.items()
    ),
]
