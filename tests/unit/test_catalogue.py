"""Nonsense in a catalogue gets a helpful error."""

from __future__ import annotations

from pathlib import Path

import pytest

from zaslon.domain.catalogue import Catalogue, load_catalogue, parse_catalogue
from zaslon.domain.errors import CatalogueError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.intake import clean_batch

GOOD = """
name = "bank"
version = 1
not_for_model = ["hour"]
[record]
columns = ["id", "at", "card", "shop", "paid"]
[[fields]]
name = "id"
role = "transaction_id"
[[fields]]
name = "at"
aliases = ["moment"]
role = "event_time"
[[fields]]
name = "card"
role = "entity"
entity = "card"
[[fields]]
name = "shop"
role = "entity"
entity = "shop"
[[fields]]
name = "paid"
role = "amount"
[retention]
late_within = "1d"
remember = "40d"
[prior]
rate = 0.01
[conditions]
small = "amount < 10 AND card_count_1d > 0"
[[aggregates]]
entity = "card"
windows = ["1d"]
compute = ["count", "mean"]
[[aggregates]]
entity = "shop"
windows = ["1d"]
compute = ["frauds"]
where = "small"
[derived]
double = "amount * 2"
ratio = "double / card_mean_1d"
"""


def plan_of(text: str) -> FeaturePlan:
    return plan_features(parse_catalogue(text))


def test_the_catalogue_that_the_others_are_spoiled_from_is_good() -> None:
    assert plan_of(GOOD).names[-2:] == ("double", "ratio")


# What is written instead of what, and what the answer must contain.
SPOILED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "no TOML": ("version = 1", "version = ", ("not valid TOML", "line 3")),
    "unknown key": ("version = 1", "version = 1\nagregates = []", ("no key 'agregates'", "'aggregates'")),
    "unknown key of a field": ('name = "paid"', 'name = "paid"\nmaximun = 5', ("fields.4", "'maximum'")),
    "unknown key of an aggregate": ("compute =", 'window = ["1d"]\ncompute =', ("no key", "'windows'")),
    "missing name": ('name = "bank"\n', "", ("name", "missing")),
    "missing windows": ('windows = ["1d"]\ncompute = ["count"', 'compute = ["count"', ("windows", "missing")),
    "no windows": ('windows = ["1d"]', "windows = []", ("aggregates.0.windows", "at least 1")),
    "name with a blank": ('name = "bank"', 'name = "my bank"', ("'my bank' is not a name",)),
    "unknown role": ('role = "amount"', 'role = "amout"', ("fields.4.role", "'amount'")),
    "no amount": ('role = "amount"', 'role = "number"', ("exactly one field", "'amount'")),
    "two times": ('name = "paid"\nrole = "amount"', 'name = "paid"\nrole = "event_time"', ("exactly one",)),
    "entity without a name": ('entity = "shop"\n[[fields]]', "[[fields]]", ("'shop'", "entity is named")),
    "one entity twice": ('entity = "shop"\n[[fields]]', 'entity = "card"\n[[fields]]', ("'card'", "different names")),
    "a column of every row": ('entity = "shop"\n[[fields]]', 'entity = "transaction"\n[[fields]]', ("'transaction_key'", "Rename it")),
    "one field twice": ('name = "shop"', 'name = "card"', ("two fields are called 'card'",)),
    "alias of another": ('aliases = ["moment"]', 'aliases = ["PAID"]', ("two fields are called 'paid'",)),
    "column twice": ('"shop", "paid"]', '"shop", "shop"]', ("names 'shop' twice",)),
    "unknown column": ('"paid"]', '"pait"]', ("record.columns", "'pait'", "Did you mean 'paid'?")),
    "unknown entity": ('entity = "shop"\nwindows', 'entity = "shopp"\nwindows', ("'shopp'", "'shop'")),
    "unknown aggregate": ('"mean"]', '"meen"]', ("'meen'", "Did you mean 'mean'?")),
    "quantile of nothing": ('"mean"]', '"q0"]', ("'q0' is not an aggregate",)),
    "distinct of itself": ('"mean"]', '"distinct_card"]', ("'distinct_card'", "'distinct_shop'")),
    "window without a unit": ('["1d"]', '["30"]', ("'30' is not a duration", "30s, 15m, 6h")),
    "window of no time": ('["1d"]', '["0h"]', ("'0h' must be at least 1s",)),
    "nothing late": ('late_within = "1d"', 'late_within = "0s"', ("late_within", "must be at least 1s")),
    "late for longer than known": ('"40d"', '"1h"', ("late_within = '1d'", "remember = '1h'")),
    "rate of a hundred": ("rate = 0.01", "rate = 100", ("prior.rate", "less than 1")),
    "strength without end": ("rate = 0.01", "strength = inf", ("prior.strength", "less than")),
    "unknown condition": ('where = "small"', 'where = "smal"', ("'smal'", "Did you mean 'small'?")),
    "condition on a mean": (
        '["count", "mean"]', '["mean"]\nwhere = "small"', ("'mean' cannot have a condition", "frauds")
    ),
    "condition that is a number": ('"amount < 10 AND card_count_1d > 0"', '"amount"', ("'small'", "amount")),
    "condition on what comes later": ("card_count_1d", "shop_frauds_small_1d", ("'small'", "come")),
    "too many conditions": (
        "[conditions]", "[conditions]\n" + "\n".join(f'c{i} = "amount > {i}"' for i in range(6)),
        ("7 conditions", "6 are the most"),
    ),
    "too many flags": (
        "[retention]",
        "".join(f'[[fields]]\nname = "n{i}"\nrole = "number"\nusual_maximum = 1\n' for i in range(30))
        + "[retention]",
        ("33 flags", "32 are the most"),
    ),
    "an id that may lack": ('role = "transaction_id"', 'role = "transaction_id"\nrequired = false', ("'id'", "is required")),
    "a time that may lack": ('role = "event_time"', 'role = "event_time"\nrequired = false', ("'at'", "is required")),
    "an amount that may lack": ('role = "amount"', 'role = "amount"\nrequired = false', ("'paid'", "is required")),
    "usual time": ('role = "event_time"', 'role = "event_time"\nusual_maximum = 5', ("'at'", "usual_maximum")),
    "usual beyond 64 bits": (
        'name = "paid"', f'name = "paid"\nusual_maximum = {10**400}', ("fields.4.usual_maximum", "less than")
    ),
    "version beyond 64 bits": ("version = 1", f"version = {10**30}", ("version", "less than")),
    "bound beyond floats": ('name = "paid"', f'name = "paid"\nminimum = {10**400}', ("minimum", "1e+300")),
    "bound that is not a number": ('name = "paid"', 'name = "paid"\nmaximum = nan', ("fields.4.maximum", "1e+300")),
    "bounds that cross": (
        'name = "paid"', 'name = "paid"\nminimum = 5\nmaximum = 4.5', ("'paid'", "minimum = 5", "4.5")
    ),
    "too many newest": ('windows = ["1d"]', 'newest = 5000\nwindows = ["1d"]', ("newest", "1024")),
    "aggregate twice": ('"mean"]', '"mean", "mean"]', ("'card_mean_1d' is defined twice",)),
    "derived as an aggregate": ("double = ", 'card_mean_1d = "amount"\ndouble = ', ("'card_mean_1d'", "twice")),
    "derived as a field": ("double = ", 'hour = "amount"\ndouble = ', ("'hour' is defined twice",)),
    "derived of nothing": ("amount * 2", "amont * 2", ("'double'", "'amont'", "Did you mean 'amount'?")),
    "derived with a bad end": ("amount * 2", "amount * ", ("'double'", "missing after '*'")),
    "derived before its part": ("amount * 2", "ratio * 2", ("'double'", "'ratio' does not come before")),
    "derived of itself": ("amount * 2", "double * 2", ("'double' does not come before it",)),
    "left out of nothing": ('["hour"]', '["our"]', ("not_for_model", "'our'", "Did you mean 'hour'?")),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILED)
def test_nonsense_in_a_catalogue_gets_a_helpful_error(case: str) -> None:
    good, bad, expected = SPOILED[case]
    assert good in GOOD
    with pytest.raises(CatalogueError) as raised:
        plan_of(GOOD.replace(good, bad, 1) if case != "too many conditions" else GOOD.replace(good, bad))
    message = str(raised.value)
    assert [part for part in expected if part not in message] == [], message
    assert "Value error" not in message and "Traceback" not in message


def test_a_catalogue_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="nowhere.toml"):
        load_catalogue(tmp_path / "nowhere.toml")


def test_a_catalogue_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_bytes('name = "банк"'.encode("utf-16"))
    with pytest.raises(CatalogueError, match="cannot be read"):
        load_catalogue(file)


def test_only_changes_of_meaning_change_the_hash() -> None:
    first = parse_catalogue(GOOD)
    assert parse_catalogue(GOOD + "\n# a comment").hash == first.hash
    changed = [
        parse_catalogue(GOOD.replace(a, b))
        for a, b in (("40d", "41d"), ("0.01", "0.02"), ("amount * 2", "amount * 3"), ("< 10", "< 11"))
    ]
    assert len({c.hash for c in (first, *changed)}) == 5
    assert {c.mapping_hash for c in changed[1:]} == {first.mapping_hash} != {changed[0].mapping_hash}


def test_bounds_are_exact_as_integers_and_as_decimals() -> None:
    most = 2**53 + 1  # as a float this is another number
    catalogue = parse_catalogue(GOOD.replace('name = "id"', f'name = "id"\nmaximum = {most}', 1))
    lines = [f"{i},2020-01-01 10:00:00,1,1,5".encode() for i in (most, most + 1)]
    batch = RecordBatch.of(lines, [Kind.TRANSACTION_LINE] * 2, [1_600_000_000] * 2)
    cleaned = clean_batch(batch, catalogue, b"key")
    assert cleaned.transactions.transaction_id.tolist() == [most]
    assert f"expected {most} or less" in cleaned.rejected.detail[0]
    whole, decimal = (
        parse_catalogue(GOOD.replace('name = "paid"', f'name = "paid"\nmaximum = {bound}', 1))
        for bound in ("1000000000", "1000000000.0")
    )
    assert whole.hash == decimal.hash


def test_the_default_catalogue_has_the_promised_features() -> None:
    names = set(plan_features(load_catalogue()).names)
    promised = {
        "customer_count_1d", "customer_mean_30d", "customer_std_30d", "customer_max_30d",
        "customer_median_30d", "customer_q90_30d", "customer_distinct_terminal_30d",
        "customer_since_last_30d", "terminal_known_7d", "terminal_frauds_7d", "terminal_risk_7d",
        "terminal_since_fraud_30d", "terminal_frauds_ordinary_amount_7d", "amount_to_customer_mean_30d",
        "amount_to_customer_median_30d", "amount_to_customer_q90_30d",
        "amount_above_customer_mean_in_std_30d", "hour", "weekday", "is_night", "is_weekend",
        "is_new_terminal_30d", "flag_amount_zero",
    }  # fmt: skip
    assert promised - names == set()


def test_amounts_beyond_exact_sums_are_rejected() -> None:
    text = GOOD.replace('role = "amount"', 'role = "amount"\nusual_maximum = 500')
    catalogue = parse_catalogue(text)
    day = "2020-01-01 10:00:00"
    amounts = ("500.00", "500.01", "10000000000000.00", "10000000000000.01", "-10000000000000.01")
    lines = [f"{i},{day},1,1,{amount}".encode() for i, amount in enumerate(amounts)]
    batch = RecordBatch.of(lines, [Kind.TRANSACTION_LINE] * 5, [1_600_000_000] * 5)
    cleaned = clean_batch(batch, catalogue, b"key")
    bit = catalogue.flag_names.index("paid_unusual")
    assert ((cleaned.transactions.flags >> bit) & 1).tolist() == [0, 1, 1]
    assert cleaned.rejected.index.tolist() == [3, 4]
    assert "10^15" in cleaned.rejected.detail[0]


def test_what_is_not_for_the_model_is_computed_and_left_out_of_it() -> None:
    plan = plan_of(GOOD)
    assert "hour" in plan.names
    assert "hour" not in [plan.names[i] for i in plan.model_columns]
    assert isinstance(plan.catalogue, Catalogue)


def test_a_changed_copy_has_a_hash_of_its_own() -> None:
    catalogue = load_catalogue()
    before = catalogue.hash
    changed = catalogue.model_copy(update={"version": catalogue.version + 1})
    assert changed.hash != before
    assert changed != catalogue
    assert catalogue.model_copy() == catalogue
