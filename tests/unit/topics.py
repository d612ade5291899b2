"""Short texts about three topics, which small models learn and a large one knows: for the loop that trains and promotes."""

import numpy as np

TOPICS = {
    "parcel": [
        "parcel",
        "courier",
        "tracking",
        "delivery",
        "doorstep",
        "warehouse",
        "postage",
        "driver",
        "dispatch",
        "shipment",
    ],
    "refund": [
        "refund",
        "money",
        "chargeback",
        "reimbursed",
        "cashback",
        "credited",
        "overcharged",
        "reversal",
        "payback",
        "voucher",
    ],
    "password": [
        "password",
        "login",
        "locked",
        "reset",
        "authenticator",
        "username",
        "signin",
        "verification",
        "passcode",
        "account",
    ],
}

FILLER = [
    "please",
    "hello",
    "my",
    "the",
    "is",
    "was",
    "about",
    "today",
    "again",
    "need",
    "help",
    "with",
    "for",
    "a",
    "question",
    "regarding",
    "since",
    "still",
]


def texts(n, seed, *, mixed=False):
    """Rows (text, topic): two words of the topic among filler; `mixed` sometimes adds one of another topic."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(n):
        topic = list(TOPICS)[rng.integers(3)]
        words = [*rng.choice(TOPICS[topic], 2), *rng.choice(FILLER, 5)]
        if mixed and rng.random() < 0.15:
            words.append(rng.choice(TOPICS[list(TOPICS)[rng.integers(3)]]))
        rng.shuffle(words)
        rows.append((" ".join([*words, f"n{seed}x{place}"]), topic))
    return rows


def large(text: str) -> str:
    """What the large model says: the topic of the first word that belongs to one."""
    return next((topic for topic, words in TOPICS.items() if any(w in words for w in str(text).split())), "parcel")
