"""The user records of cases.json, spelled out."""
import json
import pathlib

HERE = pathlib.Path(__file__).parent


def cases():
    """Each case with `members` as (key, explicit hash key or None, data)."""
    listed = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    return [{**case, "members": [m for member in case["members"] for m in spelled_out(member)]} for case in listed]


def spelled_out(member):
    data = member["data"]
    data = bytes.fromhex(data["byte"]) * data["length"] if isinstance(data, dict) else bytes.fromhex(data)
    for number in range(member.get("times", 1)):
        explicit = member.get("explicit")
        yield (
            member["key"].replace("{}", str(number)),
            explicit.replace("{}", str(number)) if explicit is not None else None,
            data,
        )
