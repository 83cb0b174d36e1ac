// The user records of cases.json, spelled out: { key, explicit (or undefined), data }.
import { readFileSync } from "node:fs";

export function cases() {
  const listed = JSON.parse(readFileSync(new URL("cases.json", import.meta.url), "utf8"));
  return listed.map((entry) => ({ ...entry, members: entry.members.flatMap(spelledOut) }));
}

function spelledOut(member) {
  const data = typeof member.data === "string"
    ? Buffer.from(member.data, "hex")
    : Buffer.alloc(member.data.length, Buffer.from(member.data.byte, "hex"));
  return Array.from({ length: member.times ?? 1 }, (_, number) => ({
    key: member.key.replace("{}", number),
    explicit: member.explicit?.replace("{}", number),
    data,
  }));
}
