"""Messages; the library makes objects of them that can be read like mappings."""


def normalize_messages(messages, *, field_name):
    return [dict(message) for message in messages]
