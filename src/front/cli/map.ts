/**
 * `quire map`: where a file lies, drawn as a strip of the disk and listed run by run.
 *
 *     [....##......####..]   each character is a part of the disk; # holds some of the file
 */
import type { FileExtent, FileSystem } from "../../fs/vfs.ts";
import { formatSize } from "../size-text.ts";
import { counted } from "./info.ts";
import { table } from "./output.ts";

const STRIP_CHARACTERS = 64;

const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [0x1, "last"],
  [0x2, "unknown"],
  [0x4, "delalloc"],
  [0x8, "encoded"],
  [0x80, "encrypted"],
  [0x100, "not-aligned"],
  [0x200, "inline"],
  [0x400, "tail"],
  [0x800, "unwritten"],
  [0x1000, "merged"],
  [0x2000, "shared"],
];

/** The words for FIEMAP_EXTENT_* bits. */
export function extentFlagNames(flags: number): string[] {
  return FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}

/** An extent as `--json` gives it. */
export function extentJson(extent: FileExtent): object {
  return {
    logical: extent.logicalBytes,
    physical: extent.physicalBytes === -1 ? null : extent.physicalBytes,
    length: extent.lengthBytes,
    flags: extentFlagNames(extent.flags),
  };
}

/** The strip and the list. */
export function mapText(fs: FileSystem, sizeBytes: number, extents: readonly FileExtent[]): string {
  const usage = fs.usage();
  const diskBytes = usage.blockCount * usage.blockBytes;
  const sizes = `${formatSize(sizeBytes)} of file on ${formatSize(diskBytes)} of disk`;
  const head = `${counted(extents.length, "extent")}, ${sizes}\n`;
  const rows = extents.map((extent) => [
    String(extent.logicalBytes),
    extent.physicalBytes === -1 ? "-" : String(extent.physicalBytes),
    String(extent.lengthBytes),
    extentFlagNames(extent.flags).join(","),
  ]);
  const list = table([["file byte", "disk byte", "length", "flags"], ...rows], [0, 1, 2]);
  return `${head}${stripOf(diskBytes, extents)}\n${list}`;
}

function stripOf(diskBytes: number, extents: readonly FileExtent[]): string {
  const cells = new Array<string>(STRIP_CHARACTERS).fill(".");
  const cellBytes = Math.max(diskBytes / STRIP_CHARACTERS, 1);
  for (const { physicalBytes, lengthBytes, flags } of extents) {
    if (physicalBytes < 0 || (flags & 0x200) !== 0) continue;
    const first = Math.floor(physicalBytes / cellBytes);
    const last = Math.floor((physicalBytes + lengthBytes - 1) / cellBytes);
    for (let at = first; at <= Math.min(last, STRIP_CHARACTERS - 1); at++) {
      cells[at] = (flags & 0x800) !== 0 ? "u" : "#";
    }
  }
  return `[${cells.join("")}]`;
}
