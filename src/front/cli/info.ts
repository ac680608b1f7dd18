/**
 * `quire info`: what an image is. First what people look for, one line each; then all the rest.
 *
 *     disk.img: ext4 "root", 8.0 GiB, clean
 *
 *     Layout      2097152 blocks of 4.0 KiB in 64 groups, 524288 inodes of 256 bytes
 *     Usage       1.3 GiB of 7.8 GiB (17%), 331 of 524288 inodes
 *     ..
 *     Details
 *       uuid      ..
 */
import type { Partition } from "../../block/partition.ts";
import type { DiskInfo } from "../disk.ts";
import { formatSize } from "../size-text.ts";
import type { Volume } from "../volume.ts";
import { printable, table } from "./output.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Fields of a description that the first lines tell already. */
const TOLD: ReadonlySet<string> = new Set(["type", "label", "state", "features", "usage"]);
const LABEL_WIDTH = 12;
const TEXT_WIDTH = 78;

/** The text of `quire info`. */
export function infoText(volume: Volume): string {
  const info = volume.info();
  const { fileSystem } = info;
  const label = textIn(fileSystem, "label");
  const named = label === "" ? "" : ` "${label}"`;
  const sizeBytes = volume.partition?.lengthBytes ?? info.sizeBytes;
  const where = volume.partition === undefined ? "" : ` in partition ${volume.partition.number}`;
  const head = [
    `${printable(info.name)}${where}: ${volume.fileSystem.typeName}${named}`,
    formatSize(sizeBytes),
    stateText(fileSystem),
  ];
  return (
    `${head.filter(Boolean).join(", ")}\n\n` +
    line("Layout", layoutText(fileSystem)) +
    line("Features", listIn(fileSystem, "features")) +
    line("Usage", usageText(volume)) +
    line("Journal", journalText(fileSystem)) +
    line("Partitions", volume.partitionTable.scheme) +
    partitionRows(info.partitions, (number) => (number === info.partition ? "open" : "")) +
    `\nDetails\n${section(fileSystem, "  ", TOLD)}`
  );
}

/** A label and text behind it, broken at blanks; nothing for no text. */
export function line(label: string, text: string): string {
  if (text === "") return "";
  const lines: string[] = [];
  let current = "";
  for (const word of text.split(" ")) {
    const joined = current === "" ? word : `${current} ${word}`;
    if (current !== "" && joined.length > TEXT_WIDTH - LABEL_WIDTH) {
      lines.push(current);
      current = word;
    } else current = joined;
  }
  lines.push(current);
  const indent = " ".repeat(LABEL_WIDTH);
  return `${label.padEnd(LABEL_WIDTH)}${lines.join(`\n${indent}`)}\n`;
}

/** "1 group", "2 groups". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** "inodesPerGroup" to "inodes per group": names of fields as people read them. */
export function fieldName(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, (_all, before: string, letter: string) => {
    return `${before} ${letter.toLowerCase()}`;
  });
}

function fieldsIn(fields: Fields, key: string): Fields {
  const value = fields[key];
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function textIn(fields: Fields, key: string): string {
  const value = fields[key];
  return typeof value === "string" ? printable(value) : "";
}

function numberIn(fields: Fields, key: string): number {
  const value = fields[key];
  return typeof value === "number" ? value : 0;
}

function listIn(fields: Fields, key: string): string {
  const value = fields[key];
  return Array.isArray(value) ? value.map((item) => printable(String(item))).join(" ") : "";
}

function layoutText(fileSystem: Fields): string {
  const layout = fieldsIn(fileSystem, "layout");
  const blocks = counted(numberIn(layout, "blockCount"), "block");
  const groups = counted(numberIn(layout, "groupCount"), "group");
  const inodes = counted(numberIn(fieldsIn(fileSystem, "usage"), "inodes"), "inode");
  const clusters = numberIn(layout, "clusterBytes");
  return (
    `${blocks} of ${formatSize(numberIn(layout, "blockBytes"))} in ${groups}, ` +
    `${inodes} of ${numberIn(layout, "inodeBytes")} bytes` +
    (clusters === 0 ? "" : `, clusters of ${formatSize(clusters)}`)
  );
}

function usageText(volume: Volume): string {
  const { blockBytes, blockCount, freeBlockCount, ...usage } = volume.fileSystem.usage();
  const usedBlocks = Math.max(blockCount - freeBlockCount, 0);
  const percent = blockCount === 0 ? 0 : Math.round((100 * usedBlocks) / blockCount);
  const used = formatSize(usedBlocks * blockBytes);
  const inodes = `${usage.inodeCount - usage.freeInodeCount} of ${usage.inodeCount} inodes`;
  return `${used} of ${formatSize(blockCount * blockBytes)} (${percent}%), ${inodes}`;
}

function journalText(fileSystem: Fields): string {
  const journal = fieldsIn(fileSystem, "journal");
  if (Object.keys(journal).length === 0) return "none";
  const blocks = numberIn(journal, "blockCount");
  const transactions = numberIn(journal, "transactionCount");
  const fastCommits = numberIn(journal, "fastCommitCount");
  const replayed = [
    transactions === 0 ? "" : counted(transactions, "transaction"),
    fastCommits === 0 ? "" : counted(fastCommits, "fast commit"),
  ].filter(Boolean);
  return [
    textIn(journal, "kind"),
    blocks === 0 ? "" : counted(blocks, "block"),
    replayed.length === 0 ? "nothing to replay" : `${replayed.join(" and ")} replayed into memory`,
  ]
    .filter(Boolean)
    .join(", ");
}

/** "clean" of a superblock means little while its journal has to be replayed. */
function stateText(fileSystem: Fields): string {
  const isDirty = fieldsIn(fileSystem, "journal")["isDirty"] === true;
  return isDirty ? "not cleanly unmounted" : textIn(fileSystem, "state");
}

/** The text for a disk of which no file system is open. */
export function diskText(disk: DiskInfo): string {
  const note = (number: number): string => (disk.extPartitions.includes(number) ? "ext" : "");
  const head = `${printable(disk.name)}: ${formatSize(disk.sizeBytes)}\n\n`;
  const hint =
    disk.extPartitions.length === 0
      ? "No partition holds ext2/3/4."
      : `Several partitions hold ext2/3/4: name one with --partition ${disk.extPartitions[0]}.`;
  const rows = partitionRows(disk.partitions, note);
  return `${head}${line("Partitions", disk.partitionScheme)}${rows}\n${hint}\n`;
}

function partitionRows(partitions: readonly Partition[], note: (number: number) => string): string {
  if (partitions.length === 0) return "";
  const rows = partitions.map((partition) => [
    note(partition.number),
    String(partition.number),
    formatSize(partition.offsetBytes),
    formatSize(partition.lengthBytes),
    printable(partition.typeName) + (partition.label ? ` "${printable(partition.label)}"` : ""),
  ]);
  const head = ["", "number", "start", "size", "type"];
  return table([head, ...rows], [0, 1, 2, 3]);
}

/** A line for each field that says something; nested objects become indented sections. */
function section(fields: Fields, indent: string, told: ReadonlySet<string> = new Set()): string {
  let text = "";
  for (const [key, value] of Object.entries(fields)) {
    if (told.has(key) || isNothing(value)) continue;
    if (typeof value === "object" && !Array.isArray(value)) {
      const nested = section(value as Fields, `${indent}  `);
      if (nested !== "") text += `${indent}${fieldName(key)}\n${nested}`;
      continue;
    }
    const isBytes = /Bytes$/.test(key) && typeof value === "number";
    const shown = isBytes ? `${value} (${formatSize(value)})` : plain(value);
    text += `${indent}${fieldName(key).padEnd(27)} ${shown}\n`;
  }
  return text;
}

function isNothing(value: unknown): boolean {
  return value === null || value === undefined || value === "" || plain(value) === "";
}

function plain(value: unknown): string {
  if (Array.isArray(value)) return value.map(plain).join(" ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return printable(String(value));
}
