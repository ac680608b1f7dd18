/** Sizes as people write and read them: "64MiB" to bytes, bytes to "64.0 MiB". */
import { GIB, KIB, MIB } from "../lib/units.ts";
import { invalidArgValue } from "./arguments.ts";

const UNITS = new Map<string, number>([
  ["", 1],
  ["b", 1],
  ["k", KIB],
  ["kib", KIB],
  ["kb", 1000],
  ["m", MIB],
  ["mib", MIB],
  ["mb", 1_000_000],
  ["g", GIB],
  ["gib", GIB],
  ["gb", 1_000_000_000],
  ["t", 1024 * GIB],
  ["tib", 1024 * GIB],
  ["tb", 1_000_000_000_000],
]);

/**
 * Bytes for a number, or for text such as "256MiB", "64k" or "1.5G" (powers of 1024; "MB" is
 * decimal).
 */
export function parseSize(value: string | number, name: string): number {
  if (typeof value === "number") {
    if (Number.isSafeInteger(value) && value >= 0) return value;
    throw invalidArgValue(name, value, "must be a whole number of bytes");
  }
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(value);
  const unit = match && UNITS.get(match[2]!.toLowerCase());
  if (!match || unit === undefined || unit === null) {
    throw invalidArgValue(name, value, 'must be a size such as "64MiB"');
  }
  const bytes = Math.floor(Number(match[1]) * unit);
  if (!Number.isSafeInteger(bytes))
    throw invalidArgValue(name, value, "must be a size below 8 PiB");
  return bytes;
}

/** "1.5 MiB", "512 B": one digit after the point from KiB on. */
export function formatSize(bytes: number): string {
  if (bytes < KIB) return `${bytes} B`;
  const names = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes / KIB;
  let at = 0;
  while (value >= 1023.95 && at < names.length - 1) {
    value /= KIB;
    at++;
  }
  return `${value.toFixed(1)} ${names[at]}`;
}
