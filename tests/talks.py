"""48 short chats that several files train on: who went where? The answer stands in the question."""

PLACES, NAMES = ["पटना", "पुणे", "सूरत"], ["मीरा", "राजू", "आयशा", "सना"]
TALKS = [
    {
        "messages": [
            {"role": "user", "content": f"{NAMES[n % 4]} {PLACES[n % 3]} गई। कहाँ गई?"},
            {"role": "assistant", "content": PLACES[n % 3]},
        ]
    }
    for n in range(48)
]
