"""Files of bulk runs: valid rows, bad rows, and files that are refused as a whole."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reversals.manual.bulk import uploads
from reversals.manual.bulk.uploads import FileRefused, FileRow, read_points_of, read_rows

HEADER = b"redemption_id,points,reason\n"


def rows_of(*lines: str, default_reason: str = "") -> list[FileRow]:
    return read_rows(HEADER + "\n".join(lines).encode(), default_reason=default_reason)


def problem_of(line: str) -> str:
    return rows_of(line)[0].problem


def refusal_of(data: bytes) -> str:
    with pytest.raises(FileRefused) as refused:
        read_rows(data)
    return str(refused.value)


def test_rows_are_read_with_their_line_numbers() -> None:
    assert rows_of("gWpna6,12.5,broken", "", 'aB3,,"late,\nvery late"', "x1, 3 , why ") == [
        FileRow(2, "gWpna6", "12.5", "broken"),
        FileRow(4, "aB3", "", "late,\nvery late"),
        FileRow(6, "x1", "3", "why"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"redemption_id,points,reason\nR1,2,caf\xc3\xa9\n",
        b"\xef\xbb\xbfRedemption_ID;Points;Reason\r\nR1;2;caf\xc3\xa9\r\n",
        b"reason\tredemption_id\tpoints\rcaf\xc3\xa9\tR1\t2",
        b'" POINTS ","REASON","redemption_id"\n"2","caf\xc3\xa9","R1"',
        b"redemption_id;points;reason\r;;\rR1;2;caf\xc3\xa9",
    ],
)
def test_bom_delimiter_column_order_case_and_line_endings_may_vary(data: bytes) -> None:
    [row] = read_rows(data)
    assert replace(row, line=2) == FileRow(2, "R1", "2", "café")


def test_rows_without_a_reason_use_the_reason_of_the_form() -> None:
    assert [row.reason for row in rows_of("R1,1,", "R2,1,mine", default_reason=" the form's ")] == [
        "the form's",
        "mine",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",1,why", "redemption_id is empty; expected the id of a redemption"),
        (f"{'R' * 65},1,why", "redemption_id has 65 characters; expected at most 64"),
        ("R1,1,", "reason is empty; expected a reason here or in the form"),
        (f"R1,1,{'w' * 501}", "reason has 501 characters; expected at most 500"),
        ("R1,ten,why", "points: expected a number, such as 12.5, or nothing for all remaining points"),
        ("R1,0,why", "points: expected more than 0, such as 12.5, or nothing for all remaining points"),
        ("R1,-1,why", "points: expected more than 0, such as 12.5, or nothing for all remaining points"),
        ("R1,1.0001,why", "points: expected at most 3 decimals, such as 12.5, or nothing for all remaining points"),
        (f"R1,{'0' * 64}5,why", "points has 65 characters; expected at most 64"),
        ("R1,1", "expected 3 fields, as in the header; found 2"),
        ("R1,1,why,more", "expected 3 fields, as in the header; found 4"),
    ],
)
def test_a_bad_row_states_its_problem_and_the_next_row_is_read(line: str, problem: str) -> None:
    bad, good = rows_of(line, "R9,1.5000,why")
    assert bad.problem == problem
    assert good == FileRow(3, "R9", "1.5000", "why")


def test_the_second_row_of_the_same_redemption_is_bad() -> None:
    rows = rows_of("R1,1,why", "R2,1,why", "R1,2,why")
    assert [row.problem for row in rows] == [
        "",
        "",
        "line 4 repeats the redemption of line 2; put the points in one row",
    ]


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", "line 1: expected the columns redemption_id, points, reason, customer; the file is empty"),
        (
            b"\xef\xbb\xbf \r\n",
            "line 1: expected the columns redemption_id, points, reason, customer; the file is empty",
        ),
        (HEADER + b"\n \n", "line 2: expected at least one row under the header; the file has no rows"),
        (
            HEADER + b"R1,1,caf\xe9\n",
            "line 2, character 9: expected UTF-8, found 'é' in Windows-1252; save the file as CSV UTF-8",
        ),
        (
            b"\xef\xbb\xbf" + HEADER + b"\xe9",
            "line 2, character 1: expected UTF-8, found 'é' in Windows-1252; save the file as CSV UTF-8",
        ),
        ("redemption_id".encode("utf-16"), "line 1: expected UTF-8, found UTF-16; save the file as CSV UTF-8"),
        (HEADER + b"R1,1\0,x\n", "line 2: expected text; found a NUL character"),
        (b"R1,1,why\n", "line 1, column 1: 'R1' is unknown; expected redemption_id, points, reason, customer"),
        (
            b"redemption_id,points,why\nR1,1,x",
            "line 1, column 3: 'why' is unknown; expected redemption_id, points, reason, customer",
        ),
        (
            b"points,points,reason\n",
            "line 1, column 2: 'points' is a duplicate; expected redemption_id, points, reason, customer",
        ),
        (
            b"redemption_id,points\nR1,1",
            "line 1: the column reason is missing; expected redemption_id, points, reason, customer",
        ),
        (
            HEADER + b"R1,1," + b"w" * 4_000,
            "line 2, character 4001: expected a line of at most 4,000 characters",
        ),
        (HEADER + b'R1,1,why\nR2,1,"open', "line 3: expected CSV with every quote closed; unexpected end of data"),
        (HEADER + b"R,1,w\n" * 5_001, "line 5002: expected at most 5,000 rows; split the file"),
        (b" " * 1_000_001, "the file has 1,000,001 bytes; expected at most 1,000,000"),
    ],
)
def test_an_invalid_file_is_refused_as_a_whole(data: bytes, refusal: str) -> None:
    assert refusal_of(data) == refusal


def test_a_file_with_the_largest_allowed_number_of_rows_is_read() -> None:
    assert len(read_rows(HEADER + b"".join(b"R%d,,w\n" % number for number in range(uploads.MOST_ROWS)))) == 5_000


@given(st.binary() | st.text(alphabet='redmption_id,;\t"\r\n019.ea\0\ufeff=').map(lambda text: HEADER + text.encode()))
@example(b"\xef\xbb\xbf")
@example(b'"')
@example(HEADER + b'"\r\n')
def test_any_bytes_give_rows_or_a_refusal_that_states_what_was_expected(data: bytes) -> None:
    try:
        rows = read_rows(data)
    except FileRefused as refused:
        assert "expected" in str(refused)
        return
    assert rows
    assert len({row.line for row in rows}) == len(rows)
    for row in rows:
        assert row.problem or row.redemption_id
        if not row.problem:
            read_points_of(row.points_written)


def test_optional_customer_is_read_without_blanks() -> None:
    (row,) = read_rows("customer;redemption_id;points;reason\n +91 98765 43210\u200b;R1;;why\n".encode())
    assert row == FileRow(2, "R1", "", "why", customer="+91 98765 43210")
