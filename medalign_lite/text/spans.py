"""A span of an answer: where the characters are that carry a clinical meaning, and of which kind it is."""
Span = tuple[int, int, str]  # start, end (characters), kind
KINDS = ("finding", "negation", "side", "zone", "size", "severity", "device", "other")
