"""What `beam_jobs.upload` and `beam_jobs.download` print when they are done."""

from collections.abc import Mapping

from schemas.errors import JobFailed, one_line

_NAMED = 20  # more names would scroll the rest away


def files(number: int) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} file{'' if number == 1 else 's'}"


def end(left_out: Mapping[str, str], total: int, place: str, done: str) -> None:
    """Prints each path that is left out, with its reason. Raises JobFailed if there is any. `done`: uploaded or
    downloaded."""
    for path, reason in sorted(left_out.items())[:_NAMED]:
        print(one_line(f"not {done}: {path}: {reason}"))
    if len(left_out) > _NAMED:
        print(f"... and {len(left_out) - _NAMED:,} more")
    if left_out:
        path, reason = min(left_out.items())
        raise JobFailed(
            f"{len(left_out):,} of {files(total)} in {place} cannot be {done}, the first of them {path} ({reason}); rename "
            "or repair them, and run again"
        )
