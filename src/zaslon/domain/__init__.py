"""The nouns: events, outcomes, rejection reasons, money, time, the catalogue, expressions, errors."""
