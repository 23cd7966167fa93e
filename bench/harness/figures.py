"""The figures that README.md cites, found among the records."""

from __future__ import annotations

from collections.abc import Sequence

from clorg_scale.errors import InputError

from .records import Record

__all__ = ["Figures"]


class Figures:
    """Records by what they measured; the main machine is the one of the first record that is asked for."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = [record for record in records if record.role != "missing"]

    def find(self, benchmark: str, case: str, contender: str, *, avx512: bool | None = None) -> Record:
        """The last record whose case and contender begin so; rather one whose contender has no other name.

        Parameters
        ----------
        benchmark, case, contender
            Its benchmark, and how its case and contender begin.
        avx512
            True: only of a machine with AVX-512; False: rather of one without.

        Raises
        ------
        InputError
            If there is none.
        """
        found = [
            record
            for record in self.records
            if record.benchmark == benchmark and record.case.startswith(case) and record.contender.startswith(contender)
        ]
        of_kind = [record for record in found if (record.machine.get("instructions") == "AVX-512") == avx512]
        found = of_kind or ([] if avx512 else found)
        found = [record for record in found if record.contender == contender] or found
        if not found:
            raise InputError(
                f"The records lack {benchmark}: {case}, {contender}; give the files of bench/results, or run "
                f"'clorg-scale bench run {benchmark}'."
            )
        return found[-1]

    def seconds(self, *key: str, avx512: bool | None = None) -> float:
        """Median seconds of a record."""
        seconds = self.find(*key, avx512=avx512).seconds
        if seconds is None:
            raise InputError(f"The record of {', '.join(key)} has no times.")
        return seconds

    def all(self, benchmark: str, case: str = "") -> list[Record]:
        """All records of a benchmark whose case begins so."""
        return [record for record in self.records if record.benchmark == benchmark and record.case.startswith(case)]
