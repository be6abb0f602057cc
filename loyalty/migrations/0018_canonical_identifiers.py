"""Stores identifiers in their canonical form, in which every entry point looks them up.

Prints each change. Changes nothing if two customers would have the same identifier, and names both of them.
Ids, references and transaction numbers are sealed, so they keep their spelling: see decision 38.
"""

import phonenumbers
from django.core.management.base import CommandError
from django.db import migrations

from loyalty.ledger.identifiers import IdentifierType, identify


def canonical_value(kind, value, country):
    if kind != IdentifierType.MOBILE or not (value.isascii() and value.isdigit()):
        return identify(IdentifierType(kind), value, country=country).value
    # Earlier versions read 491701234567 in Germany as +49 491701234567.
    code = str(phonenumbers.country_code_for_region(country))
    shorter = value.removeprefix(code)
    return shorter if shorter.startswith(code) and is_mobile(shorter) and not is_mobile(value) else value


def is_mobile(digits):
    try:
        kind = phonenumbers.number_type(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return False
    return kind in {phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE}


def make_canonical(apps, schema_editor):
    alias = schema_editor.connection.alias
    identifiers = apps.get_model("loyalty", "CustomerIdentifier").objects.using(alias)
    countries = dict(apps.get_model("loyalty", "Org").objects.using(alias).values_list("id", "country"))
    rows = identifiers.values_list("id", "org_id", "customer_id", "customer__public_id", "type", "value")
    changes = [
        (*row, new)
        for row in rows.iterator(chunk_size=5_000)
        if (new := canonical_value(row[4], row[5], countries[row[1]])) != row[5]
    ]
    clashes, owners = [], {}
    for row_id, org_id, customer_id, customer, kind, value, new in changes:
        stored = identifiers.filter(org_id=org_id, type=kind, value=new)
        first = stored.values_list("customer_id", "customer__public_id", "value").first()
        other = first or owners.setdefault((org_id, kind, new), (customer_id, customer, value))
        if new and other[0] != customer_id:
            clashes.append(
                f"org {org_id}: {kind} {value!a} of customer {customer} and {other[2]!a} of customer {other[1]}"
            )
    if clashes:
        raise CommandError(
            "nothing was changed, because these customers would have the same identifier; remove or change one of each"
            " with set_identifier, and migrate again:\n" + "\n".join(clashes)
        )
    for row_id, org_id, _, customer, kind, value, new in changes:
        row = identifiers.filter(org_id=org_id, id=row_id)
        if not new or identifiers.filter(org_id=org_id, type=kind, value=new).exists():
            row.delete()
            print(f"org {org_id}, customer {customer}: {kind} {value!a} was removed, because it is {new or 'blank'!a}")
        else:
            row.update(value=new)
            print(f"org {org_id}, customer {customer}: {kind} {value!a} became {new!a}")


class Migration(migrations.Migration):

    under_load = "Reads all identifiers, and updates only those that change. Run no import meanwhile."

    dependencies = [
        ("loyalty", "0017_exact_numbers"),
    ]

    operations = [migrations.RunPython(make_canonical, migrations.RunPython.noop)]
