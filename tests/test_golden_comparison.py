"""The comparison with the expected output forgives the last digits of scores, and nothing else."""

from __future__ import annotations

from golden import differences

HEADER = (
    '##INFO=<ID=VARFM_MINI_CTCF,Number=A,Type=Float,Description="x">\n'
    '##INFO=<ID=AF,Number=A,Type=Float,Description="x">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
)


def vcf(scores: str, other: str = "AF=0.5", status: str = "OK,STAR") -> str:
    strong = "c\t1\t.\tA\tC\t.\t.\tVARFM_STATUS=OK;VARFM_MINI_CTCF=-8\n"
    return f"{HEADER}{strong}c\t9\t.\tG\tT,*\t.\t.\t{other};VARFM_STATUS={status};VARFM_MINI_CTCF={scores}\n"


def test_equal_text_has_no_differences() -> None:
    assert list(differences(vcf("1,."), vcf("1,."))) == []


def test_a_score_may_differ_by_a_hundred_thousandth_of_the_largest() -> None:
    assert list(differences(vcf("0.001,."), vcf("0.00107,."))) == []  # 0.00007 of 8
    assert list(differences(vcf("0.001,."), vcf("0.00109,."))) == [
        "line 5: expected VARFM_MINI_CTCF=0.001,., found 0.00109,."
    ]


def test_a_missing_score_is_a_difference() -> None:
    assert len(list(differences(vcf("0,."), vcf(".,.")))) == 1
    assert len(list(differences(vcf("0,."), vcf("0,0")))) == 1


def test_other_values_are_compared_as_text() -> None:
    assert len(list(differences(vcf("1,."), vcf("1,.", other="AF=0.50")))) == 1
    assert len(list(differences(vcf("1,."), vcf("1,.", status="OK,SYMBOLIC")))) == 1
    assert len(list(differences(vcf("1,."), vcf("1,.").replace("c\t9", "c\t8")))) == 1


def test_lost_and_added_lines_are_differences() -> None:
    assert len(list(differences(vcf("1,."), HEADER))) == 2
    assert len(list(differences(HEADER, vcf("1,.")))) == 2
