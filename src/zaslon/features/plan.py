"""The plan: a catalogue compiled into feature names and the kernel's flat arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zaslon.domain.catalogue import Aggregates, Catalogue
from zaslon.domain.errors import CatalogueError, ZaslonError, did_you_mean
from zaslon.domain.features import FeatureInfo
from zaslon.domain.time import parse_duration_seconds
from zaslon.expressions.expression import Expression, parse_expression
from zaslon.features.kernel import EVENTS, FRAUDS, MARKS, TARGET, Compute, PlanArrays

_OVER_EVENTS = {
    "count": Compute.COUNT, "sum": Compute.SUM, "mean": Compute.MEAN, "min": Compute.MIN,
    "max": Compute.MAX, "std": Compute.STD, "median": Compute.QUANTILE,
    "since_last": Compute.SINCE_LAST,
}  # fmt: skip
_OVER_LABELS = {
    "known": Compute.COUNT, "frauds": Compute.COUNT, "risk": Compute.RISK,
    "since_fraud": Compute.SINCE_FRAUD, "since_first_fraud": Compute.SINCE_FIRST_FRAUD,
    "good_since_fraud": Compute.GOOD_SINCE_FRAUD, "recent_risk": Compute.RECENT_RISK,
}  # fmt: skip
_WITH_CONDITION = {
    "count", "since_last", "frauds", "risk", "since_fraud", "since_first_fraud",
    "good_since_fraud", "recent_risk",
}  # fmt: skip
_NEED_KNOWN = {"known", "risk", "good_since_fraud", "recent_risk"}
_NEED_VALUES = {Compute.SUM, Compute.MEAN, Compute.MIN, Compute.MAX, Compute.STD, Compute.QUANTILE}
_NEED_BLOCKS = {Compute.MIN, Compute.MAX, Compute.STD}

_WORD = re.compile(r"\w+")

TRANSACTION_FEATURES = ("amount", "hour", "weekday", "second_of_day")


@dataclass(frozen=True)
class Column:
    """One aggregate: which compute over which window of which entity."""

    info: FeatureInfo
    compute: Compute
    window_seconds: int
    newest: int
    percent: int = 0
    counterparty: str | None = None


@dataclass(frozen=True)
class EntityPlan:
    """Everything the kernel needs for one entity; `arrays` is indexed as described in `PlanArrays`."""

    entity: str
    columns: tuple[Column, ...]
    counterparties: tuple[str, ...]
    arrays: PlanArrays
    is_optional: bool

    @property
    def targets(self) -> list[int]:
        """Its columns of the matrix."""
        return [int(target) for target in self.arrays.columns[:, TARGET]]

    @property
    def takes_labels(self) -> bool:
        """Whether labels are kept."""
        return self.arrays.known_list >= 0 or self.arrays.fraud_bits.size > 0

    @property
    def has_values(self) -> bool:
        """Whether amounts are kept."""
        return any(c.compute in _NEED_VALUES for c in self.columns)

    @property
    def has_blocks(self) -> bool:
        """Whether summaries of blocks of amounts are kept."""
        return any(c.compute in _NEED_BLOCKS for c in self.columns)

    def keys_only(self) -> EntityPlan:
        """The same entity without features and lists: others still see its keys."""
        arrays, nothing = self.arrays, np.zeros(0, np.int64)
        return replace(
            self, columns=(), counterparties=(),
            arrays=arrays._replace(
                range_begin=np.zeros_like(arrays.range_begin), ranges=arrays.ranges[:0],
                columns=arrays.columns[:0], percents=nothing, lists=np.zeros_like(arrays.lists),
                counterparties=nothing, mark_bits=nothing, fraud_bits=nothing, known_list=-1,
            ),
        )  # fmt: skip


@dataclass(frozen=True)
class FeaturePlan:
    """The compiled catalogue. Columns of the matrix are `names`, in this order."""

    catalogue: Catalogue
    infos: tuple[FeatureInfo, ...]
    entities: tuple[EntityPlan, ...]
    conditions: tuple[tuple[str, Expression], ...]
    condition_before: dict[str, int]  # condition → index of the first entity plan that uses it
    derived: tuple[tuple[str, Expression], ...]

    @cached_property
    def keep_seconds(self) -> int:
        """What was last touched this long before the watermark is in no window and no label can name it.

        Lists name other entities' keys too, so this is the same for all of them.
        """
        windows = max((int(e.arrays.keep_seconds.max()) for e in self.entities), default=0)
        return max(windows, parse_duration_seconds(self.catalogue.retention.remember))

    def decisive_seconds(self, label_delay_seconds: int) -> int:
        """How far back events count: a state of older ones too decides as one without them.

        What is kept is within `keep_seconds`, and its labels are about transactions that are older by the delay.
        Which list an event is in may depend on aggregates at its time, and these on older events again: once
        for each condition that leads to another.

        Args:
            label_delay_seconds: after which labels come, all of them about remembered transactions.
        """
        return (self.keep_seconds + label_delay_seconds) * (1 + self._conditions_in_a_row)

    @cached_property
    def _conditions_in_a_row(self) -> int:
        """The longest chain of conditions of which each uses an aggregate that has the next one."""
        aggregates = {i.name: i.where for i in self.infos if i.kind == "aggregate"}
        expressions = dict(self.conditions)

        def depth(name: str | None) -> int:
            if name is None:
                return 0
            used = [aggregates[n] for n in expressions[name].names if n in aggregates]
            return 1 + max(map(depth, used)) if used else 0

        return max(map(depth, expressions), default=0)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names by column of the matrix."""
        return tuple(i.name for i in self.infos)

    @cached_property
    def column_of(self) -> dict[str, int]:
        """Column of the matrix by feature name."""
        return {name: i for i, name in enumerate(self.names)}

    def only(self, number: int) -> FeaturePlan:
        """The plan that fills the columns of one entity, given those of the entities before it.

        A log that holds all events of some keys of the entity gives these columns as the whole log does. The
        last entity's plan also has the derived features. See `History.apply`.
        """
        is_last = number == len(self.entities) - 1
        return replace(
            self,
            entities=tuple(
                entity if k == number else entity.keys_only() for k, entity in enumerate(self.entities)
            ),
            condition_before={c: n for c, n in self.condition_before.items() if n <= number},
            derived=self.derived if is_last else (),
        )

    @cached_property
    def model_columns(self) -> tuple[int, ...]:
        """Columns that a model is trained on: all but the catalogue's `not_for_model`."""
        degradation = set(self.catalogue.not_for_model)
        return tuple(i for i, name in enumerate(self.names) if name not in degradation)


def plan_features(catalogue: Catalogue) -> FeaturePlan:
    """Compile a catalogue.

    Raises:
        CatalogueError: an unknown aggregate, a name used twice, a condition or derived feature
            that refers to something unknown or not yet computed.
    """
    base = tuple(_base_infos(catalogue))
    columns = {entity: _columns(catalogue, entity) for entity in catalogue.entities}
    aggregates = tuple(c.info for entity in catalogue.entities for c in columns[entity])
    known = [i.name for i in (*base, *aggregates)]
    derived = _derived(catalogue, known)
    infos = base + aggregates + tuple(FeatureInfo(name, "derived", expression=e.text) for name, e in derived)
    _check_unique([i.name for i in infos], catalogue)
    first_column = len(base)
    entities = []
    for entity in catalogue.entities:
        entities.append(_entity_plan(catalogue, entity, columns[entity], first_column))
        first_column += len(columns[entity])
    conditions, before = _conditions(catalogue, base, columns)
    return FeaturePlan(catalogue, infos, tuple(entities), conditions, before, derived)


def _base_infos(catalogue: Catalogue) -> Iterator[FeatureInfo]:
    for name in (*TRANSACTION_FEATURES, *catalogue.number_fields):
        yield FeatureInfo(name, "transaction")
    for flag in catalogue.flag_names:
        yield FeatureInfo(f"flag_{flag}", "flag")


def _columns(catalogue: Catalogue, entity: str) -> tuple[Column, ...]:
    return tuple(
        _column(catalogue, part, compute, window)
        for part in catalogue.aggregates
        if part.entity == entity
        for compute in part.compute
        for window in part.windows
    )


def _column(catalogue: Catalogue, part: Aggregates, compute: str, window: str) -> Column:
    if part.where is not None and compute not in _WITH_CONDITION:
        raise CatalogueError(
            f"'{compute}' cannot have a condition (`where = \"{part.where}\"`).",
            hint=f"With a condition: {', '.join(sorted(_WITH_CONDITION))}.",
        )
    kind, percent, counterparty = _parse_compute(catalogue, part.entity, compute)
    where = f"_{part.where}" if part.where else ""
    info = FeatureInfo(
        f"{part.entity}_{compute}{where}_{window}", "aggregate",
        part.entity, compute, window, part.where,
    )  # fmt: skip
    return Column(info, kind, parse_duration_seconds(window), part.newest, percent, counterparty)


def _parse_compute(catalogue: Catalogue, entity: str, compute: str) -> tuple[Compute, int, str | None]:
    if compute == "median":
        return Compute.QUANTILE, 50, None
    simple = _OVER_EVENTS.get(compute) or _OVER_LABELS.get(compute)
    if simple is not None or compute in ("count", "known", "frauds"):
        return simple or Compute.COUNT, 0, None
    quantile = re.fullmatch(r"q([1-9][0-9]?)", compute)
    if quantile:
        return Compute.QUANTILE, int(quantile[1]), None
    pair = re.fullmatch(r"(distinct|same)_([a-z0-9_]+)", compute)
    if pair and pair[2] in catalogue.entities and pair[2] != entity:
        return (Compute.DISTINCT if pair[1] == "distinct" else Compute.SAME), 0, pair[2]
    others = [e for e in catalogue.entities if e != entity]
    possible = [*_OVER_EVENTS, *_OVER_LABELS, "q90"]
    possible += [f"{word}_{other}" for word in ("distinct", "same") for other in others]
    raise CatalogueError(
        f"'{compute}' is not an aggregate of entity '{entity}'.",
        hint=did_you_mean(compute, possible),
    )


def _entity_plan(
    catalogue: Catalogue, entity: str, columns: tuple[Column, ...], first_column: int
) -> EntityPlan:
    counterparties = tuple(dict.fromkeys(c.counterparty for c in columns if c.counterparty))
    builder = _ArraysBuilder(catalogue, entity, columns, counterparties)
    is_optional = entity in catalogue.optional_entities
    return EntityPlan(entity, columns, counterparties, builder.build(first_column), is_optional)


class _ArraysBuilder:
    """Lays out one entity's lists and ranges."""

    def __init__(
        self, catalogue: Catalogue, entity: str, columns: tuple[Column, ...], counterparties: tuple[str, ...]
    ) -> None:
        self.catalogue, self.entity = catalogue, entity
        self.columns, self.counterparties = columns, counterparties
        bits = {name: bit for bit, name in enumerate(catalogue.conditions)}
        labels = [c for c in columns if c.info.compute in _OVER_LABELS]
        events = [c for c in columns if c.info.compute not in _OVER_LABELS]
        self.event_lists = int(any(c.info.where is None for c in events))
        self.mark_bits = list(dict.fromkeys(bits[c.info.where] for c in events if c.info.where))
        needs_known = any(c.info.compute in _NEED_KNOWN for c in labels)
        self.known_list = len(self.mark_bits) if needs_known else -1
        self.fraud_bits = list(
            dict.fromkeys(
                bits[c.info.where] if c.info.where else -1 for c in labels if c.info.compute != "known"
            )
        )
        self.bits = bits
        self.ranges: dict[tuple[int, int, int], int] = {}

    def _range(self, pool: int, item: int, window_seconds: int) -> int:
        return self.ranges.setdefault((pool, item, window_seconds), len(self.ranges))

    def _column_ranges(self, column: Column) -> tuple[int, int]:
        window, where = column.window_seconds, column.info.where
        bit = self.bits[where] if where else -1
        if column.info.compute not in _OVER_LABELS:
            pool, item = (MARKS, self.mark_bits.index(bit)) if where else (EVENTS, 0)
            return self._range(pool, item, window), 0
        if column.info.compute == "known":
            return self._range(MARKS, self.known_list, window), 0
        first = self._range(FRAUDS, self.fraud_bits.index(bit), window)
        if column.info.compute in _NEED_KNOWN:
            return first, self._range(MARKS, self.known_list, window)
        return first, 0

    def build(self, first_column: int) -> PlanArrays:
        for column in self.columns:
            self._column_ranges(column)
        self.ranges = {key: number for number, key in enumerate(sorted(self.ranges))}
        pairs = [self._column_ranges(c) for c in self.columns]
        late = parse_duration_seconds(self.catalogue.retention.late_within)
        longest = [
            max((w for pool_, _, w in self.ranges if pool_ == pool), default=0) + late
            for pool in (EVENTS, MARKS, FRAUDS)
        ]
        keys = np.array(list(self.ranges), np.int64).reshape(-1, 3)
        others = {name: i for i, name in enumerate(self.counterparties)}
        columns = [
            (column.compute, first, second, column.newest, others.get(column.counterparty or "", 0), target)
            for target, (column, (first, second)) in enumerate(
                zip(self.columns, pairs, strict=True), start=first_column
            )
        ]
        marks = len(self.mark_bits) + (self.known_list >= 0)
        return PlanArrays(
            range_begin=np.searchsorted(keys[:, 0], [EVENTS, MARKS, FRAUDS, FRAUDS + 1]).astype(np.int64),
            ranges=keys,
            columns=np.array(columns, np.int64).reshape(-1, 6),
            percents=np.array([c.percent for c in self.columns], np.int64),
            entity=list(self.catalogue.entities).index(self.entity),
            counterparties=np.array(
                [list(self.catalogue.entities).index(c) for c in self.counterparties], np.int64
            ),
            lists=np.array([self.event_lists, marks, len(self.fraud_bits)], np.int64),
            mark_bits=np.array(self.mark_bits, np.int64),
            fraud_bits=np.array(self.fraud_bits, np.int64),
            known_list=self.known_list,
            keep_seconds=np.array(longest, np.int64),
            scale=float(10**self.catalogue.minor_digits),
            prior_rate=self.catalogue.prior.rate,
            prior_strength=self.catalogue.prior.strength,
        )


def _conditions(
    catalogue: Catalogue, base: tuple[FeatureInfo, ...], columns: dict[str, tuple[Column, ...]]
) -> tuple[tuple[tuple[str, Expression], ...], dict[str, int]]:
    """Parse conditions; each may use the transaction and aggregates of entities before its user."""
    entities = list(catalogue.entities)
    parsed, before = [], {}
    for name, text in catalogue.conditions.items():
        users = [e for e in entities if any(c.info.where == name for c in columns[e])]
        first_user = entities.index(users[0]) if users else len(entities)
        known = [i.name for i in base]
        known += [c.info.name for e in entities[:first_user] for c in columns[e]]
        try:
            parsed.append((name, parse_expression(text, known, "condition")))
        except ZaslonError as error:
            raise CatalogueError(
                f"Condition '{name}': {error.message}",
                hint=(error.hint or "")
                + " A condition sees the transaction and the aggregates of entities that come"
                " before the entity that uses it.",
            ) from error
        before[name] = first_user
    return tuple(parsed), before


def _derived(catalogue: Catalogue, known: list[str]) -> tuple[tuple[str, Expression], ...]:
    derived: list[tuple[str, Expression]] = []
    for name, text in catalogue.derived.items():
        try:
            derived.append((name, parse_expression(text, [*known, *(d[0] for d in derived)], "number")))
        except ZaslonError as error:
            later = [n for n in list(catalogue.derived)[len(derived) :] if n in _WORD.findall(text)]
            hint = (
                f"'{later[0]}' does not come before it, and a derived feature may only use what does:"
                " change their order, without cycles."
                if later
                else error.hint
            )
            raise CatalogueError(f"Derived feature '{name}': {error.message}", hint=hint) from error
    return tuple(derived)


def _check_unique(names: list[str], catalogue: Catalogue) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise CatalogueError(
            f"Feature '{min(twice)}' is defined twice.",
            hint="Leave one out, or rename it. An aggregate's name is entity_compute_condition_window.",
        )
    for name in catalogue.not_for_model:
        if name not in names:
            raise CatalogueError(
                f"not_for_model names '{name}', which is not a feature.", hint=did_you_mean(name, names)
            )
