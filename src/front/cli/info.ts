/**
 * `quire info`: what an image is, for people in sections of lines, for scripts as one JSON value.
 */

import { formatSize } from "../size-text.ts";
import { codedName } from "../text-case.ts";
import type { Volume } from "../volume.ts";
import { printable, table } from "./output.ts";

function plain(value: unknown): string {
  if (value === null || value === undefined || value === "") return "-";
  if (Array.isArray(value)) return value.map(plain).join(" ") || "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return printable(String(value));
}

/** One line for each field of a description; nested objects become indented sections. */
function section(description: Readonly<Record<string, unknown>>, indent: string): string {
  let text = "";
  for (const [key, value] of Object.entries(description)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      const nested = section(value as Record<string, unknown>, `${indent}  `);
      text += `${indent}${codedName(key)}:\n${nested}`;
      continue;
    }
    const isBytes = /Bytes$/.test(key) && typeof value === "number";
    const shown = isBytes ? `${value} (${formatSize(value)})` : plain(value);
    text += `${indent}${`${codedName(key)}:`.padEnd(26)} ${shown}\n`;
  }
  return text;
}

function partitionLines(volume: Volume): string {
  const { scheme, partitions } = volume.partitionTable;
  if (partitions.length === 0) return `Partitions: none (${scheme})\n`;
  const rows = partitions.map((partition) => [
    partition.number === volume.partition?.number ? "*" : " ",
    String(partition.number),
    formatSize(partition.offsetBytes),
    formatSize(partition.lengthBytes),
    printable(partition.typeName),
    printable(partition.label ?? ""),
  ]);
  const head = ["", "no", "start", "size", "type", "label"];
  return `Partitions (${scheme}):\n${table([head, ...rows], [1, 2, 3])}`;
}

/** The text of `quire info`. */
export function infoText(volume: Volume): string {
  const info = volume.info();
  const { usage } = info;
  const usedBlocks = usage.blockCount - usage.freeBlockCount;
  const used = formatSize(usedBlocks * usage.blockBytes);
  const total = formatSize(usage.blockCount * usage.blockBytes);
  const percent = usage.blockCount === 0 ? 0 : Math.round((100 * usedBlocks) / usage.blockCount);
  const usedInodes = usage.inodeCount - usage.freeInodeCount;
  return (
    `${printable(info.name)}: ${volume.fileSystem.typeName}, ${formatSize(info.sizeBytes)}\n` +
    partitionLines(volume) +
    `Used: ${used} of ${total} (${percent}%), ${usedInodes} of ${usage.inodeCount} inodes\n` +
    `File system:\n${section(volume.fileSystem.describe(), "  ")}`
  );
}

/** What the store and the cache did, in lines. */
export function statsText(volume: Volume): string {
  const { block, cache } = volume.stats();
  return `Block layer:\n${section(flat(block), "  ")}Page cache:\n${section(flat(cache), "  ")}`;
}

function flat(value: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(value)) as Record<string, unknown>;
}
