"""The catalogue: what a company's records look like and which features are kept of them.

A TOML file, validated here, hashed and versioned. Another company's columns, entities and windows
are another file, not other code. `features.plan` compiles it; `intake` maps fields by it.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from zaslon.domain.errors import CatalogueError, ZaslonError, did_you_mean, sentence_of
from zaslon.domain.time import SECONDS_PER_DAY, checked_duration, parse_day, parse_duration_seconds

FLAGS_MAX = 32
RECORD_BYTES_MAX = 1_048_576  # that max_record_bytes may allow
BOUND_MAX = 1e300  # of a field's range: far beyond any value
# What a row has beside its entities and further numbers, in clean days or on its way there.
_COLUMNS_OF_ROWS = frozenset(
    (
        "transaction_id", "transaction_key", "transaction_text", "event_time_seconds", "amount_minor", "flags",
        "digest_0", "digest_1", "is_fraud", "scenario", "order", "source", "record", "offset", "raw", "layout",
    )
)  # fmt: skip
CONDITIONS_MAX = 6  # they share one byte with the label's state in the table of remembered events

# What exports write where they have no value; in any case, and in any field.
NULL_WORDS = (
    "-", "--", "?", "#n/a", "(null)", "<na>", "<null>", "\\n", "n/a", "na", "nan", "nat", "nil", "none",
    "null", "undefined", "unknown",
)  # fmt: skip

Role = Literal[
    "transaction_id", "event_time", "amount", "entity", "number",
    "elapsed_seconds", "is_fraud", "scenario", "ignored",
]  # fmt: skip


def _checked_name(name: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) is None:
        raise ValueError(f"'{name}' is not a name: use lower-case letters, digits and _")
    return name


def _checked_horizon(text: str) -> str:
    if parse_duration_seconds(checked_duration(text)) == 0:
        raise ValueError(f"'{text}' must be at least 1s")
    return text


def _checked_bound(bound: float) -> int | float:
    """A float64, or an integer where that would be another number: ids have more digits than floats."""
    if not abs(bound) <= BOUND_MAX:  # nor not-a-number
        raise ValueError(f"a bound lies between -{BOUND_MAX:g} and {BOUND_MAX:g}")
    return float(bound) if float(bound) == bound or abs(bound) >= 2**63 else bound


def _checked_gap(text: str) -> str:
    if 0 < parse_duration_seconds(checked_duration(text)) < SECONDS_PER_DAY:
        raise ValueError(f"'{text}' is less than a day: gaps are counted in days; 0d allows any")
    return text


def _checked_null_word(word: str) -> str:
    if not word.strip():
        raise ValueError("a null word cannot be empty: an empty value is absent anyway")
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", word):
        raise ValueError(f"'{word}' is a number: list it under `unknown` of its field")
    return word.strip().lower()


Name = Annotated[str, AfterValidator(_checked_name)]
Bound = Annotated[int | float, AfterValidator(_checked_bound)]
NullWord = Annotated[str, AfterValidator(_checked_null_word)]
Duration = Annotated[str, AfterValidator(checked_duration)]
Horizon = Annotated[str, AfterValidator(_checked_horizon)]  # a duration of at least a second
Gap = Annotated[str, AfterValidator(_checked_gap)]  # a duration of at least a day, or none


# Flags that every catalogue has, and their bits.
_FLAGS_ALWAYS = ("amount_zero", "elapsed_disagrees", "fraction_of_second_dropped")
AMOUNT_ZERO, ELAPSED_DISAGREES, FRACTION_DROPPED = (1 << bit for bit in range(3))
_NAMED_FIELD = re.compile(r"\bname\s*=\s*[\"']([^\"']+)[\"']")
INVISIBLE_CHARACTERS = "invisible_characters"  # the flag of catalogues with keys that are texts


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the changes in `update`; what was derived from the original's fields is not copied."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields:
            del copied.__dict__[name]
        return copied


class RecordLayout(_Strict):
    """How a text record is laid out: `columns` names the fields of a line without header."""

    separator: str = Field(default=",", pattern=r"^[,;|\t~^!&]$")  # nothing that values are written with
    columns: tuple[str, ...] = ()
    max_record_bytes: int = Field(default=4096, ge=16, le=RECORD_BYTES_MAX)
    null_words: tuple[NullWord, ...] = NULL_WORDS
    clock_skew: Duration = "1d"
    gap_max: Gap | None = None

    @cached_property
    def clock_skew_seconds(self) -> int:
        """`clock_skew` in seconds."""
        return parse_duration_seconds(self.clock_skew)


class SourceField(_Strict):
    """One field of the source and its role. Names are compared without regard to case."""

    name: Name
    aliases: tuple[str, ...] = ()
    role: Role
    entity: Name | None = None
    type: Literal["integer", "text"] = "integer"
    required: bool = True
    minimum: Bound | None = None
    maximum: Bound | None = None
    unknown: tuple[str, ...] = ()
    usual_maximum: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    format: Literal["datetime", "epoch_seconds"] = "datetime"
    counts_from: tuple[str, ...] = ()
    pseudonymise: bool | None = None
    zero_padded: bool = False
    thousandths: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SourceField:
        self._check_pseudonymise()
        if (self.role == "entity") != (self.entity is not None):
            raise ValueError(f"field '{self.name}': an entity is named if and only if role = 'entity'")
        if self.type == "text" and self.role not in ("entity", "transaction_id"):
            raise ValueError(
                f"field '{self.name}': only the id of a transaction and the key of an entity can have"
                " type = 'text'"
            )
        if self.type == "text" and not (self.minimum is None and self.maximum is None):
            raise ValueError(f"field '{self.name}': minimum and maximum are for numbers, and this is text")
        if self.role in ("transaction_id", "event_time", "amount") and not self.required:
            raise ValueError(
                f"field '{self.name}': no transaction is without its {self.role}, so it is required"
            )
        has_size = self.role in ("transaction_id", "entity", "amount", "number") and self.type == "integer"
        if self.usual_maximum is not None and not has_size:
            raise ValueError(f"field '{self.name}': usual_maximum is for numbers: ids, amounts and numbers")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"field '{self.name}': minimum = {self.minimum:g} is above maximum = {self.maximum:g}:"
                " every record would be rejected"
            )
        if self.thousandths and self.role != "amount":
            raise ValueError(f"field '{self.name}': thousandths is for the amount")
        if self.zero_padded and not self.is_integer_id:
            raise ValueError(f"field '{self.name}': zero_padded is for ids and keys that are integers")
        for day in self.counts_from:
            try:
                parse_day(day)
            except ZaslonError as error:
                raise ValueError(f"field '{self.name}', counts_from: {error}") from error
        return self

    def _check_pseudonymise(self) -> None:
        if self.pseudonymise is not None and self.role != "entity":
            raise ValueError(f"field '{self.name}': pseudonymise is for the key of an entity")
        if self.pseudonymise is False and self.type == "text":
            raise ValueError(
                f"field '{self.name}': an entity's text is known by its keyed hash only, so it is always"
                " pseudonymised"
            )

    @property
    def is_pseudonymised(self) -> bool:
        """Whether a keyed hash replaces its values: always for texts, on request for numbers."""
        return self.role == "entity" and (self.type == "text" or self.pseudonymise is True)

    @property
    def is_integer_id(self) -> bool:
        """Whether it holds a transaction's id or the key of an entity as a number."""
        return self.role in ("transaction_id", "entity") and self.type == "integer"

    @property
    def is_text_key(self) -> bool:
        """Whether it holds the key of an entity as text."""
        return self.role == "entity" and self.type == "text"

    @property
    def is_text_id(self) -> bool:
        """Whether it holds the transaction's id as text."""
        return self.role == "transaction_id" and self.type == "text"


class Aggregates(_Strict):
    """Aggregates of one entity over windows. `where` names a condition; see `Compute`."""

    entity: Name
    windows: tuple[Horizon, ...] = Field(min_length=1)
    compute: tuple[str, ...] = Field(min_length=1)
    where: Name | None = None
    newest: int = Field(default=64, ge=1, le=1024)


class Retention(_Strict):
    """How far back exactness reaches.

    `late_within`: a transaction may come this much after a newer one and still sees and changes
    exactly what its own time covers; later ones are rejected as `too_late`. `remember`: how long
    a transaction's id is known, for repeats and for labels.
    """

    late_within: Horizon = "7d"
    remember: Horizon = "45d"

    @model_validator(mode="after")
    def _consistent(self) -> Retention:
        if parse_duration_seconds(self.late_within) > parse_duration_seconds(self.remember):
            raise ValueError(
                f"late_within = '{self.late_within}' is longer than remember = '{self.remember}': a repeat"
                " could then be late without being known. Make remember at least as long"
            )
        return self


class RiskPrior(_Strict):
    """Smoothing of fraud rates: as if `strength` labels at rate `rate` had been seen before."""

    rate: float = Field(default=0.01, gt=0, lt=1)
    strength: float = Field(default=10.0, gt=0, le=1e12)


class Catalogue(_Strict):
    """A validated catalogue. `load_catalogue` and `parse_catalogue` make it."""

    name: Name
    version: int = Field(ge=1, lt=2**63)
    currency: str = "RUB"
    minor_digits: int = Field(default=2, ge=0, le=6)
    record: RecordLayout = RecordLayout()
    fields: tuple[SourceField, ...] = Field(min_length=3)
    retention: Retention = Retention()
    prior: RiskPrior = RiskPrior()
    conditions: dict[Name, str] = {}
    aggregates: tuple[Aggregates, ...] = ()
    derived: dict[Name, str] = {}
    not_for_model: tuple[str, ...] = ()
    _origin: str = PrivateAttr("")
    _lines: dict[str, int] = PrivateAttr(default_factory=dict)  # in the text it was read from, by field

    @model_validator(mode="after")
    def _consistent(self) -> Catalogue:
        self._check_roles()
        self._check_columns()
        for part in self.aggregates:
            if part.entity not in self.entities:
                raise ValueError(
                    f"aggregates of unknown entity '{part.entity}'. "
                    + did_you_mean(part.entity, self.entities)
                )
            if part.where is not None and part.where not in self.conditions:
                raise ValueError(
                    f"unknown condition '{part.where}'. " + did_you_mean(part.where, self.conditions)
                )
        if len(self.conditions) > CONDITIONS_MAX:
            raise ValueError(
                f"{len(self.conditions)} conditions are too many: {CONDITIONS_MAX} are the most."
                " Join some with AND or OR, or make them derived features"
            )
        if len(self.flag_names) > FLAGS_MAX:
            raise ValueError(
                f"{len(self.flag_names)} flags are too many: {FLAGS_MAX} are the most."
                " Leave out some usual_maximum"
            )
        return self

    def _check_roles(self) -> None:
        for role in ("transaction_id", "event_time", "amount"):
            if sum(f.role == role for f in self.fields) != 1:
                raise ValueError(f"exactly one field must have the role '{role}'")
        for role in ("elapsed_seconds", "is_fraud", "scenario"):
            if sum(f.role == role for f in self.fields) > 1:
                raise ValueError(f"at most one field may have the role '{role}'")
        if twice := _first_twice(n.lower() for f in self.fields for n in (f.name, *f.aliases)):
            raise ValueError(f"two fields are called '{twice}'. Rename one of them, or its alias")
        for field in self.fields:
            column = f"{field.entity}_key" if field.entity is not None else field.name
            if field.role in ("entity", "number") and column in _COLUMNS_OF_ROWS:
                raise ValueError(
                    f"the column of field '{field.name}' would be '{column}', which every row has. Rename it"
                )
        if twice := _first_twice(self.entities):
            raise ValueError(f"two fields are the key of entity '{twice}'. Give the entities different names")
        if not self.entities:
            raise ValueError("at least one field must have the role 'entity'")

    def _check_columns(self) -> None:
        if twice := _first_twice(c.strip().lower() for c in self.record.columns):
            raise ValueError(f"record.columns names '{twice}' twice")
        for column in self.record.columns:
            if self.find_field(column) is None:
                raise ValueError(
                    f"record.columns names '{column}', which is not a field. "
                    + did_you_mean(column, [f.name for f in self.fields])
                )

    def find_field(self, column: str) -> SourceField | None:
        """The field that a source's column name means, or None."""
        return self._fields_by_name.get(column.strip().lower())

    def read_from(self, origin: str, text: str) -> Catalogue:
        """The same catalogue, knowing where its fields are described."""
        self._origin = origin[:1].lower() + origin[1:]
        section = ""
        for number, line in enumerate(text.splitlines(), 1):
            section = line.strip("[] ") if line.startswith("[") else section
            if found := _NAMED_FIELD.search(line if section in ("", "fields") else ""):
                self._lines.setdefault(found[1], number)
        return self

    def place_of(self, field: str) -> str | None:
        """Where people find a field's description, as the beginning of a sentence; None for no field of ours."""
        if not self._origin or field not in self._fields_by_name:
            return None
        line = self._lines.get(field)
        return f"Line {line} of {self._origin}" if line else f"{self._origin[:1].upper()}{self._origin[1:]}"

    def field_of(self, role: Role) -> SourceField | None:
        """The one field with this role, or None."""
        return self._fields_by_role.get(role)

    @cached_property
    def has_text_ids(self) -> bool:
        """Whether transactions are known by texts, not by numbers."""
        return any(f.is_text_id for f in self.fields)

    @cached_property
    def _fields_by_role(self) -> dict[Role, SourceField]:
        return {f.role: f for f in reversed(self.fields)}

    @cached_property
    def _fields_by_name(self) -> dict[str, SourceField]:
        return {n.lower(): f for f in self.fields for n in (f.name, *f.aliases)}

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Entity names in the order of their fields."""
        return tuple(f.entity for f in self.fields if f.entity is not None)

    @cached_property
    def optional_entities(self) -> tuple[str, ...]:
        """Entities of which a transaction need not have one."""
        return tuple(f.entity for f in self.fields if f.entity is not None and not f.required)

    @cached_property
    def number_fields(self) -> tuple[str, ...]:
        """Names of the further numeric fields."""
        return tuple(f.name for f in self.fields if f.role == "number")

    @cached_property
    def gap_max_seconds(self) -> int:
        """`record.gap_max` in seconds, whole days; 0 allows any gap.

        If not given: a day less than `late_within`, because a row so many days later may be `late_within`
        newer, and makes that much too late. At least a day.
        """
        if self.record.gap_max is not None:
            return parse_duration_seconds(self.record.gap_max)
        days = parse_duration_seconds(self.retention.late_within) // SECONDS_PER_DAY - 1
        return max(days, 1) * SECONDS_PER_DAY

    @cached_property
    def flag_names(self) -> tuple[str, ...]:
        """Flags that cleaning sets on odd but valid transactions; the index is the bit."""
        unusual = tuple(f"{f.name}_unusual" for f in self.fields if f.usual_maximum is not None)
        has_text_keys = any(f.is_text_key for f in self.fields)
        missing = tuple(missing_flag(entity) for entity in self.optional_entities)
        return (*_FLAGS_ALWAYS, *unusual, *([INVISIBLE_CHARACTERS] if has_text_keys else []), *missing)

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits that change with any change of meaning."""
        return _digest(self.model_dump(mode="json"))

    @cached_property
    def mapping_hash(self) -> str:
        """Twelve hex digits of what clean data depend on: fields, digits and horizons, not features."""
        return _digest(
            self.model_dump(mode="json", include={"minor_digits", "record", "fields", "retention"})
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalogue) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def label(self) -> str:
        """`name@version (hash)`, for people."""
        return f"{self.name}@{self.version} ({self.hash})"


def missing_flag(entity: str) -> str:
    """The flag of transactions without one of an optional entity."""
    return f"{entity}_missing"


def _first_twice(words: Iterable[str]) -> str | None:
    """The first word that occurs twice, or None."""
    seen: set[str] = set()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return None


def _digest(content: dict[str, Any]) -> str:
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()[:12]


def parse_catalogue(text: str, *, origin: str = "catalogue") -> Catalogue:
    """The catalogue in a TOML text.

    Raises:
        CatalogueError: names the place and what was expected.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{origin} is not valid TOML: {error}.") from error
    try:
        return Catalogue.model_validate(content).read_from(origin, text)
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors())
        raise CatalogueError(f"{origin} cannot be used: {problems}.") from error


_SECTIONS: dict[str, type[BaseModel]] = {
    "record": RecordLayout, "fields": SourceField, "retention": Retention,
    "prior": RiskPrior, "aggregates": Aggregates,
}  # fmt: skip


def _problem(error: ErrorDetails) -> str:
    """One problem as a sentence: where, what, and what would be right."""
    place = ".".join(map(str, error["loc"])) or "catalogue"
    section = _SECTIONS.get(str(error["loc"][0]) if len(error["loc"]) > 1 else "", Catalogue)
    if error["type"] == "extra_forbidden":
        word = str(error["loc"][-1])
        return f"{place}: there is no key '{word}' here. {did_you_mean(word, section.model_fields)}".rstrip(
            "."
        )
    if error["type"] == "missing":
        return f"{place}: this key is missing"
    return f"{place}: {sentence_of(error)}".rstrip(".")


def load_catalogue(path: str | Path | None = None) -> Catalogue:
    """The catalogue in a file, or the built-in default (`mission`) for None.

    Raises:
        CatalogueError: the file is missing or inconsistent.
    """
    if path is None:
        built_in = resources.files("zaslon.domain").joinpath("mission.toml")
        return parse_catalogue(built_in.read_text("utf-8"), origin="the built-in catalogue")
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"Catalogue '{path}' cannot be read: {error}.") from error
    return parse_catalogue(text, origin=f"Catalogue '{path}'")
