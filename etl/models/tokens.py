"""Token ids of bert-base-uncased that GroundingDINO is built on; no import of torch here."""

CLS, SEP, COMMA, DOT, QUESTION = 101, 102, 1010, 1012, 1029
# transformers hard-codes [CLS] [SEP] . ? as what separates phrases; other ids would merge phrases silently.
SPECIAL_IDS = {"[CLS]": CLS, "[SEP]": SEP, ",": COMMA, ".": DOT, "?": QUESTION}
