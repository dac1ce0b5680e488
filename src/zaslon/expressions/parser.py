"""The words of an expression: split, checked one by one, and parsed by sqlglot.

Each word outside the subset is refused here, by name, before the parser sees it. The parser then
meets only numbers, known names, our own functions, operators and reserved words; `eval` and SQL's
other constructs are out of reach.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

import sqlglot
from sqlglot import ParseError, Parser, Token, TokenType, exp
from sqlglot.errors import SqlglotError

from zaslon.domain.errors import ZaslonError, did_you_mean

TEXT_CHARACTERS_MAX = 2_000
# sqlglot's parser takes some twenty Python frames for a nested parenthesis, of a thousand in all.
NESTING_MAX = 20
FUNCTIONS = ("ABS", "COALESCE", "GREATEST", "LEAST", "LN", "NULLIF", "SQRT")
FUNCTION_PREFIX = "zaslon_"  # keeps sqlglot from giving a function its own meaning
RESERVED_WORDS = frozenset(
    ("AND", "OR", "NOT", "IN", "IS", "NULL", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END",
     "TRUE", "FALSE")
)  # fmt: skip
EXAMPLE = "Write for example: amount > 500 AND hour < 6."
KNOWN_WORDS = (
    "Known: + - * / = <> < <= > >=, AND, OR, NOT, BETWEEN, IN, IS NULL, CASE WHEN, "
    + ", ".join(FUNCTIONS) + "."
)  # fmt: skip

_AGGREGATES = frozenset(
    ("COUNT", "SUM", "AVG", "MEAN", "MIN", "MAX", "STDDEV", "STD", "MEDIAN", "QUANTILE", "LAG")
)
_STATEMENTS = frozenset(
    ("SELECT", "FROM", "WHERE", "INSERT", "UPDATE", "DELETE", "DROP", "CREATE", "WITH", "UNION",
     "EXISTS")
)  # fmt: skip
_OTHER_OPERATORS = frozenset(
    ("LIKE", "ILIKE", "CAST", "ANY", "ALL", "DISTINCT", "XOR", "DIV", "MOD", "AS", "LIMIT", "OVER")
)
_INFIX = frozenset(
    ("AND", "OR", "IN", "IS", "BETWEEN", "WHEN", "THEN", "ELSE", "*", "/", "=", "<>", "!=", "<",
     "<=", ">", ">=", ",", "+")
)  # fmt: skip
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_SIGNS = frozenset(
    (TokenType.COMMA, TokenType.PLUS, TokenType.DASH, TokenType.STAR, TokenType.SLASH,
     TokenType.EQ, TokenType.NEQ, TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE,
     TokenType.L_PAREN, TokenType.R_PAREN)
)  # fmt: skip
_CONTEXT_CHARACTERS = 90
_NESTED = f"The expression is nested too deeply; {NESTING_MAX} levels are the most."


def parse_words(text: str, known: Collection[str]) -> exp.Expr:
    """The syntax tree of `text`, whose every word has been checked.

    Raises:
        ExpressionError: the text is empty, too long or too deep, uses an unknown name or a word
            outside the subset, or its words do not form one expression.
    """
    if not text.strip():
        raise ExpressionError("The expression is empty.", text, 0, 0, hint=EXAMPLE)
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ExpressionError(
            f"The expression has {len(text)} characters; {TEXT_CHARACTERS_MAX} is the most.",
            text, TEXT_CHARACTERS_MAX, len(text), hint="Split it into several.",
        )  # fmt: skip
    return _parse(text, _Reader(text, known).checked_tokens())


class ExpressionError(ZaslonError):
    """An expression outside the subset. The message shows the text with carets below the word.

    Attributes:
        problem: the sentence alone, without the text and the carets.
        start, end: the word is `text[start:end]`.
    """

    exit_code = 5

    def __init__(self, problem: str, text: str, start: int, end: int, *, hint: str | None = None) -> None:
        super().__init__(f"{problem}\n{_pointed(text, start, end)}\n", hint=hint)
        self.problem, self.start, self.end = problem, start, end


def _pointed(text: str, start: int, end: int) -> str:
    """The line of `text` that holds `start`, cut to a readable width, and carets below the word."""
    first = text.rfind("\n", 0, start) + 1
    last = text.find("\n", first)
    last = len(text) if last < 0 else last
    left = max(first, start - _CONTEXT_CHARACTERS // 2)
    right = min(last, left + _CONTEXT_CHARACTERS)
    before, after = ("…" if left > first else ""), ("…" if right < last else "")
    line = re.sub(r"[^\S ]|[\x00-\x1f\x7f]", " ", text[left:right])
    carets = "^" * max(1, min(end, right) - start)
    return f"    {before}{line}{after}\n    {' ' * (len(before) + start - left)}{carets}"


class _Reader:
    """Splits the text into tokens and refuses, word by word, what is outside the subset.

    Known names become quoted identifiers, so that a column may be called `date`; our functions
    become anonymous ones, so that their meaning is ours.
    """

    def __init__(self, text: str, known: Collection[str]) -> None:
        self.text = text
        self.known = frozenset(known)
        self.functions = frozenset(FUNCTIONS)

    def _fail(self, problem: str, token: Token, hint: str | None = None) -> NoReturn:
        raise ExpressionError(problem, self.text, token.start, token.end + 1, hint=hint)

    def checked_tokens(self) -> list[Token]:
        tokens = self._split()
        if tokens[0].text.upper() in _INFIX:
            self._fail(f"Something is missing before '{tokens[0].text}'.", tokens[0], EXAMPLE)
        self._check_nesting(tokens)
        following = [*tokens[1:], None]
        return [self._checked(t, after) for t, after in zip(tokens, following, strict=True)]

    def _split(self) -> list[Token]:
        try:
            tokens = sqlglot.tokenize(self.text)
        except SqlglotError as error:
            start = next(i for i, c in enumerate(self.text) if c in "'\"/")
            raise ExpressionError(
                "A quotation mark or comment is not closed.", self.text, start, start + 1,
                hint="Numbers, names and operators are enough here; text values are not known.",
            ) from error  # fmt: skip
        # What lies between two tokens is white space or a comment, which `--` may start unseen.
        starts = [*(t.start for t in tokens), len(self.text)]
        ends = [0, *(t.end + 1 for t in tokens)]
        for end, start in zip(ends, starts, strict=True):
            if between := self.text[end:start].strip():
                first = self.text.index(between, end)
                raise ExpressionError(
                    "Comments are not part of an expression.",
                    self.text, first, first + len(between),
                    hint="Write the comment outside; for minus minus, use parentheses: a - (-b).",
                )  # fmt: skip
        return tokens

    def _check_nesting(self, tokens: Sequence[Token]) -> None:
        open_tokens: list[Token] = []
        prefixes = 0  # NOT and minus one after another, which nest as well
        for token in tokens:
            word = token.text.upper()
            prefixes = prefixes + 1 if word in ("NOT", "-") else 0
            if token.token_type == TokenType.L_PAREN or word == "CASE":
                open_tokens.append(token)
            elif token.token_type == TokenType.R_PAREN or word == "END":
                opening = open_tokens.pop() if open_tokens else None
                if opening is None or (opening.text == "(") != (token.text == ")"):
                    self._fail(f"This '{token.text}' closes nothing.", token)
            if len(open_tokens) + prefixes > NESTING_MAX:
                self._fail(_NESTED, token, "Split the expression.")
        if open_tokens:
            missing = ")" if open_tokens[-1].text == "(" else "END"
            self._fail(f"This '{open_tokens[-1].text}' is not closed by '{missing}'.", open_tokens[-1])

    def _checked(self, token: Token, following: Token | None) -> Token:
        called = following is not None and following.token_type == TokenType.L_PAREN
        if token.token_type == TokenType.NUMBER:
            return self._checked_number(token)
        if token.token_type == TokenType.IDENTIFIER:
            return self._name(token, self._known_name(token, token.text))
        if re.fullmatch(r"\w+", token.text):
            return self._checked_word(token, called)
        if token.token_type in _SIGNS and token.text != "==":
            return token
        self._refuse_sign(token)

    def _checked_number(self, token: Token) -> Token:
        if _NUMBER.fullmatch(token.text) is None or not math.isfinite(float(token.text)):
            self._fail(f"'{token.text}' is not a number that can be used.", token,
                      "Write for example 1500, 0.25 or 1e6.")  # fmt: skip
        return token

    def _checked_word(self, token: Token, called: bool) -> Token:
        word = token.text.upper()
        if word in RESERVED_WORDS and token.token_type != TokenType.STRING:
            return token
        if token.token_type == TokenType.STRING:
            self._refuse_sign(token)
        if called:
            if word not in self.functions:
                self._refuse_function(token, word)
            return self._renamed(token, TokenType.VAR, FUNCTION_PREFIX + word.lower())
        return self._name(token, self._known_name(token, token.text))

    def _known_name(self, token: Token, name: str) -> str:
        for form in (name, name.lower()):
            if form in self.known:
                return form
        word = name.upper()
        if word in _STATEMENTS:
            self._fail(f"'{name}' cannot be used: an expression reads one transaction, no tables.",
                      token, EXAMPLE)  # fmt: skip
        if word in self.functions:
            self._fail(f"The function '{name}' needs parentheses.", token, f"Write {word}(…).")
        if word in _OTHER_OPERATORS:
            self._fail(f"'{name}' is not part of the language.", token, KNOWN_WORDS)
        self._fail(f"Unknown name '{name}'.", token, did_you_mean(name.lower(), self.known))

    def _refuse_function(self, token: Token, word: str) -> NoReturn:
        if word in _AGGREGATES:
            self._fail(
                f"'{token.text}' looks at many transactions; an expression reads one.", token,
                "Define the aggregate in the catalogue and use its name here"
                + (", or use GREATEST or LEAST." if word in ("MAX", "MIN") else "."),
            )  # fmt: skip
        if token.text.lower() in self.known:
            self._fail(f"'{token.text}' is a column, not a function.", token,
                      "An operator is missing between it and the parenthesis.")  # fmt: skip
        if word in _STATEMENTS:
            self._known_name(token, token.text)
        self._fail(f"'{token.text}' is not a function of the language.", token,
                  did_you_mean(word, self.functions))  # fmt: skip

    def _refuse_sign(self, token: Token) -> NoReturn:
        hints = {
            TokenType.EQ: "Write = for 'equal'.",
            TokenType.SEMICOLON: "Write exactly one expression, without ';'.",
            TokenType.DOT: "Write names without a table, and 0.5 instead of .5.",
            TokenType.STRING: "Only numbers can be compared. A name is written bare or in double quotes.",
            TokenType.MOD: "Percent is not known: write 0.05 for 5 %.",
        }
        kind = "Text" if token.token_type == TokenType.STRING else "The sign"
        self._fail(f"{kind} '{token.text}' is not part of the language.", token,
                  hints.get(token.token_type, KNOWN_WORDS))  # fmt: skip

    def _name(self, token: Token, name: str) -> Token:
        return self._renamed(token, TokenType.IDENTIFIER, name)

    @staticmethod
    def _renamed(token: Token, kind: TokenType, text: str) -> Token:
        return Token(kind, text, token.line, token.col, token.start, token.end)


def _parse(text: str, tokens: list[Token]) -> exp.Expr:
    """The syntax tree, or an `ExpressionError` where the words do not form an expression."""
    try:
        trees = Parser().parse(tokens, text)
    except RecursionError as error:
        raise ExpressionError(_NESTED, text, 0, len(text), hint="Split it.") from error
    except ParseError as error:
        place = error.errors[0] if error.errors else {}
        near = _token_at(tokens, place)
        is_incomplete = near is tokens[-1] and "Unexpected" not in str(place.get("description"))
        word = text[near.start : near.end + 1]
        raise ExpressionError(
            f"Something is missing after '{word}'." if is_incomplete else f"'{word}' is not possible here.",
            text, near.start, near.end + 1, hint=EXAMPLE,
        ) from error  # fmt: skip
    if len(trees) != 1 or trees[0] is None:
        raise ExpressionError("This is not one expression.", text, 0, len(text), hint=EXAMPLE)
    return trees[0]


def _token_at(tokens: Sequence[Token], place: Mapping[str, Any]) -> Token:
    for token in tokens:
        if (token.line, token.col) == (place.get("line"), place.get("col")):
            return token
    return tokens[-1]
