"""The jobs that run by themselves: one list of data, for `zaslon schedule` and for Airflow.

A chain begins at the times of its cron text, in UTC, and never overlaps itself. Its jobs are commands of `zaslon`, each
after those that it names. A chain of which a job runs on a cluster is Airflow's, `zaslon schedule` leaves it alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from zaslon.domain.errors import ZaslonError, did_you_mean, sentence_of
from zaslon.domain.time import SECONDS_PER_DAY, checked_duration, day_text, parse_duration_seconds

_CRON_FIELDS = 5  # Airflow reads a sixth one as something else
_PLACES = ("sources", "date")
_CLUSTER_PLACES = ("raw", "lake", "home", "run")  # Airflow knows them, and `master` for jobs on the cluster


def _checked_name(name: str) -> str:
    """Also the name of a directory, and of a task in Airflow."""
    if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is None:
        raise ValueError(f"'{name}' is not a name: use lower-case letters, digits and _")
    return name


def _checked_cron(text: str) -> str:
    if len(text.split()) != _CRON_FIELDS:
        raise ValueError(f"'{text}' is not a cron text: write minute, hour, day, month and weekday")
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        problem = str(error).removeprefix("Bad ") or "no such time"
        raise ValueError(f"'{text}' is not a cron text: {problem} is wrong") from error
    return text


def _checked_timeout(text: str) -> str:
    if parse_duration_seconds(checked_duration(text)) == 0:
        raise ValueError(f"'{text}' must be at least 1s")
    return text


Name = Annotated[str, AfterValidator(_checked_name)]
Cron = Annotated[str, AfterValidator(_checked_cron)]
Duration = Annotated[str, AfterValidator(checked_duration)]
Timeout = Annotated[str, AfterValidator(_checked_timeout)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Job(_Part):
    """One command of a chain.

    Attributes:
        command: arguments of `zaslon`; `{sources}` and `{date}` are filled in, and where a job of the chain runs on a
            cluster `{raw}`, `{lake}`, `{home}` and `{run}`; in its own jobs also `{master}`, the host of its name node.
        where: `here`, a process where the chain is run, or `cluster`, a job on a cluster that lives for one run.
        after: jobs of the chain that have to end first; it does not run if one of them failed.
        after_skipped: whether it runs if one of them was skipped.
        skip_codes: exit codes that mean "nothing to do": the job counts as skipped, not as failed.
        timeout: after which an attempt is ended with all its processes.
        retries, retry_delay: how often a failed attempt is repeated, and how long after its end.
    """

    name: Name
    command: tuple[str, ...] = Field(min_length=1)
    where: Literal["here", "cluster"] = "here"
    after: tuple[Name, ...] = ()
    after_skipped: bool = False
    skip_codes: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    timeout: Timeout
    retries: int = Field(0, ge=0, le=10)
    retry_delay: Duration = "5m"

    @property
    def timeout_seconds(self) -> int:
        """Of one attempt."""
        return parse_duration_seconds(self.timeout)

    @property
    def retry_delay_seconds(self) -> int:
        """From the end of a failed attempt to the next one."""
        return parse_duration_seconds(self.retry_delay)

    def arguments(self, sources: Sequence[str], moment_seconds: float) -> list[str]:
        """The command with all its places filled in.

        Args:
            sources: for an argument `{sources}`.
            moment_seconds: whose day `{date}` is, in UTC.

        Raises:
            ZaslonError: as `with_sources`.
        """
        day = day_text(int(moment_seconds // SECONDS_PER_DAY))
        return [word.replace("{date}", day) for word in self.with_sources(sources)]

    def with_sources(self, sources: Sequence[str]) -> list[str]:
        """The command, `{date}` not filled in: that of a source is filled in with it.

        Raises:
            ZaslonError: there are no sources, and the job needs some.
        """
        if "{sources}" in self.command and not sources:
            raise ZaslonError(
                f"Job {self.name} needs the files that it cleans.",
                hint="Set ZASLON_SCHEDULE_SOURCES, for example to '/data/in/*.txt'.",
            )
        return [part for word in self.command for part in (sources if word == "{sources}" else [word])]


class Chain(_Part):
    """Jobs that run one after the other, at the times of a cron text in UTC.

    Attributes:
        when: minute, hour, day of the month, month, weekday.
        missed_within: how late a run may still begin whose time passed while the machine was off, or while the run
            before was going on; several missed runs are one.
    """

    name: Name
    when: Cron
    missed_within: Duration
    jobs: tuple[Job, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _jobs_are_in_an_order(self) -> Self:
        names = [job.name for job in self.jobs]
        if len(set(names)) < len(names):
            raise ValueError("two jobs have the same name")
        for job in self.jobs:
            for name in job.after:
                if name not in names:
                    raise ValueError(f"job {job.name} comes after '{name}'. {did_you_mean(name, names)}")
            known = (*_PLACES, *_CLUSTER_PLACES) if self.on_cluster else _PLACES
            _check_places(job, (*known, "master") if job.where == "cluster" else known)
        try:
            _ = self.ordered
        except CycleError as error:
            raise ValueError(f"jobs wait for each other: {', '.join(error.args[1])}") from error
        return self

    @property
    def on_cluster(self) -> bool:
        """Whether it needs a cluster, so that only Airflow can run it."""
        return any(job.where == "cluster" for job in self.jobs)

    @cached_property
    def ordered(self) -> tuple[Job, ...]:
        """The jobs, each behind those that it comes after."""
        by_name = {job.name: job for job in self.jobs}
        sorter = TopologicalSorter({job.name: job.after for job in self.jobs})
        return tuple(by_name[name] for name in sorter.static_order())

    @property
    def missed_within_seconds(self) -> int:
        """How late a run may begin."""
        return parse_duration_seconds(self.missed_within)

    def next_moment(self, after_seconds: float) -> float:
        """The first moment after this one at which a run is due, in seconds since 1970."""
        return next(self._moments(after_seconds))

    def newest_moment(self, now_seconds: float) -> float:
        """The last moment, up to now, at which a run was due."""
        earlier = CronSim(self.when, _moment(now_seconds) + timedelta(minutes=1), reverse=True)
        return next(m.timestamp() for m in earlier if m.timestamp() <= now_seconds)

    def count_moments(self, after_seconds: float, up_to_seconds: float, most: int = 1_000) -> int:
        """How many runs were due between two moments; at most `most`."""
        count = 0
        for moment in self._moments(after_seconds):
            if moment > up_to_seconds or count == most:
                break
            count += 1
        return count

    def _moments(self, after_seconds: float) -> Iterator[float]:
        return (moment.timestamp() for moment in CronSim(self.when, _moment(after_seconds)))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _check_places(job: Job, places: Sequence[str]) -> None:
    """`{sources}` is an argument of its own, the others may be a part of one; nothing else is in braces."""
    for word in job.command:
        for place in re.findall(r"\{([^{}]*)\}", word):
            if place not in places or (place == "sources" and word != "{sources}"):
                parts = ", ".join(f"{{{known}}}" for known in places if known != "sources")
                raise ValueError(
                    f"job {job.name}: '{word}' cannot be filled in; "
                    f"{{sources}} is an argument of its own, {parts} may be a part of one"
                )


class JobList(_Part):
    """All chains."""

    chains: tuple[Chain, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [chain.name for chain in self.chains]
        if len(set(names)) < len(names):
            raise ValueError("two chains have the same name")
        return self

    @property
    def here(self) -> tuple[Chain, ...]:
        """The chains that need no cluster: those of `zaslon schedule`."""
        return tuple(chain for chain in self.chains if not chain.on_cluster)

    def chain(self, name: str) -> Chain:
        """The chain of this name, to run it here.

        Raises:
            ZaslonError: there is none, or it needs a cluster.
        """
        for chain in self.chains:
            if chain.name == name and chain.on_cluster:
                raise ZaslonError(
                    f"Chain {name} needs a cluster, which only Airflow creates.",
                    hint="deploy/airflow/README.md says how.",
                )
            if chain.name == name:
                return chain
        raise ZaslonError(
            f"There is no chain '{name}'.", hint=did_you_mean(name, [chain.name for chain in self.here])
        )


def load_jobs(path: Path | None) -> JobList:
    """The jobs in a file, or the built-in ones for None.

    Raises:
        ZaslonError: the file is missing, or names the job and what is wrong with it.
    """
    if path is None:
        text = resources.files("zaslon.domain").joinpath("jobs.toml").read_text("utf-8")
        return parse_jobs(text, origin="The built-in list of jobs")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ZaslonError(
            f"The list of jobs '{path}' cannot be read: {error}.",
            hint="ZASLON_SCHEDULE_JOBS names it; without that, the built-in list is used.",
        ) from error
    return parse_jobs(text, origin=f"The list of jobs '{path}'")


def parse_jobs(text: str, *, origin: str) -> JobList:
    """The jobs in a TOML text.

    Raises:
        ZaslonError: as `load_jobs`.
    """
    content: dict[str, Any] = {}
    try:
        content = tomllib.loads(text)
        return JobList.model_validate(content)
    except tomllib.TOMLDecodeError as error:
        raise ZaslonError(f"{origin} is not valid TOML: {error}.") from error
    except ValidationError as error:
        problems = "; ".join(_problem(e, content) for e in error.errors())
        raise ZaslonError(
            f"{origin} cannot be used: {problems}.", hint="docs/operating/schedule.md explains the keys."
        ) from error


_KEYS: dict[str, type[BaseModel]] = {"chains": Chain, "jobs": Job}


def _problem(error: ErrorDetails, content: Mapping[str, Any]) -> str:
    """One problem: which chain and job, which key, and what would be right."""
    kind: type[BaseModel] = JobList
    place, found = [], content
    for step in error["loc"]:
        if isinstance(step, str) and step in _KEYS and kind is not Job:
            kind, found = _KEYS[step], found.get(step, {})
        elif isinstance(step, int) and isinstance(found, list):
            found = found[step]
            name = found.get("name") if isinstance(found, Mapping) else None
            place.append(f"{kind.__name__.lower()} {name or step + 1}")
        else:
            place.append(str(step))
    where = ", ".join(place) or "the list"
    if error["type"] == "extra_forbidden":
        word = str(error["loc"][-1])
        return f"{where}: there is no such key. {did_you_mean(word, kind.model_fields)}".rstrip(".")
    if error["type"] == "missing":
        return f"{where}: this key is missing"
    return f"{where}: {sentence_of(error)}".rstrip(".")
