/**
 * Entries as a tar stream in the pax format, as GNU tar's `--format=posix --xattrs` writes it: what
 * does not fit the old header stands in records before it.
 *
 * Sparse files have the form 1.0 of GNU tar: their map in blocks before the data. Sockets have no
 * form in a tar stream and are left out.
 */
import type { Timespec } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { roundUp } from "../../lib/units.ts";
import { recordsOfXattrs } from "./tar-attributes.ts";
import {
  encodeHeader,
  encodePax,
  octalMax,
  TAR_BLOCK_BYTES,
  type TarHeader,
} from "./tar-header.ts";
import type { DataRange, TreeEntry } from "./tree-entry.ts";

const encoder = new TextEncoder();
const TYPE_LETTERS = {
  file: "0",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
} as const;
const SLASH = 0x2f;
const NAME_BYTES_MAX = 100;
const ID_MAX = octalMax(7);
const SIZE_MAX = octalMax(11);
/** Blocks that a stream ends with, and the number of blocks that its length is a multiple of. */
const END_BLOCKS = 2;
const RECORD_BLOCKS = 20;

/** Takes bytes, and waits until there is room for more. */
export type TarOutput = (bytes: Uint8Array) => Promise<void>;

/** See the head of the file. */
export class TarSink {
  readonly #output: TarOutput;
  #blocks = 0;

  constructor(output: TarOutput) {
    this.#output = output;
  }

  /**
   * Writes one entry, whose content must lie in its `ranges` if it has these.
   *
   * @throws {FsError} `EOPNOTSUPP` for a socket, which has no form here
   */
  async add(entry: TreeEntry): Promise<void> {
    const letter = TYPE_LETTERS[entry.type as "file"];
    if (letter === undefined) {
      throw new FsError("EOPNOTSUPP", { detail: `a ${entry.type} has no form in a tar stream` });
    }
    if (entry.linkTo !== undefined) {
      await this.#header(entry, "1", entry.linkTo, 0, new Map());
    } else if (entry.content === undefined) {
      await this.#header(entry, letter, entry.target ?? NOTHING, 0, new Map());
    } else await this.#file(entry, entry.content);
  }

  /** Ends the stream. */
  async finish(): Promise<void> {
    const blocks = roundUp(this.#blocks + END_BLOCKS, RECORD_BLOCKS) - this.#blocks;
    await this.#write(new Uint8Array(blocks * TAR_BLOCK_BYTES));
  }

  async #file(entry: TreeEntry, content: NonNullable<TreeEntry["content"]>): Promise<void> {
    const { sizeBytes } = entry;
    const ranges = entry.ranges ?? [{ offsetBytes: 0, lengthBytes: sizeBytes }];
    const dataBytes = ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const map = sparseMap(sizeBytes, ranges);
    const isSparse = roundUp(dataBytes, TAR_BLOCK_BYTES) + map.length < sizeBytes;
    const records = isSparse ? sparseRecords(entry) : new Map<string, Uint8Array>();
    const bodyBytes = isSparse ? dataBytes + map.length : sizeBytes;
    await this.#header(entry, "0", NOTHING, bodyBytes, records);
    if (isSparse) await this.#write(map);
    let at = 0;
    let written = isSparse ? map.length : 0;
    for await (const { offsetBytes, bytes } of content()) {
      if (!isSparse) await this.#zeros(offsetBytes - at);
      await this.#output(bytes);
      at = offsetBytes + bytes.length;
      written = isSparse ? written + bytes.length : at;
    }
    // A file that has become shorter while it was read would shift all that follows.
    await this.#zeros(bodyBytes - written);
    await this.#fill(bodyBytes);
  }

  async #header(
    entry: TreeEntry,
    type: string,
    linkName: Uint8Array,
    sizeBytes: number,
    records: Map<string, Uint8Array>,
  ): Promise<void> {
    const name = nameOf(entry);
    const mtimeSec = entry.mtime.sec;
    const text = (key: string, value: string): void => {
      records.set(key, encoder.encode(value));
    };
    const isOdd = (bytes: Uint8Array): boolean => bytes.length > NAME_BYTES_MAX;
    const isSparse = records.has("GNU.sparse.name");
    if (isOdd(name) && !isSparse) records.set("path", name);
    if (isOdd(linkName)) records.set("linkpath", linkName);
    if (entry.uid > ID_MAX) text("uid", String(entry.uid));
    if (entry.gid > ID_MAX) text("gid", String(entry.gid));
    if (sizeBytes > SIZE_MAX) text("size", String(sizeBytes));
    if (entry.mtime.nsec !== 0 || mtimeSec < 0 || mtimeSec > SIZE_MAX) {
      text("mtime", timeText(entry.mtime));
    }
    const attributes = entry.linkTo === undefined ? recordsOfXattrs(entry.xattrs) : [];
    for (const [key, value] of attributes) records.set(key, value);
    if (records.size > 0) await this.#records(records, entry);
    const shown = isSparse ? encoder.encode("GNUSparseFile.0/file") : name;
    await this.#write(encodeHeader({ ...headerOf(entry), name: shown, type, linkName, sizeBytes }));
  }

  async #records(records: Map<string, Uint8Array>, entry: TreeEntry): Promise<void> {
    const data = encodePax(records);
    const name = encoder.encode("PaxHeaders/file");
    const base = { ...headerOf(entry), mode: 0o644, uid: 0, gid: 0, devMajor: 0, devMinor: 0 };
    const sizeBytes = data.length;
    await this.#write(encodeHeader({ ...base, name, type: "x", linkName: NOTHING, sizeBytes }));
    await this.#output(data);
    await this.#fill(data.length);
  }

  /** Whole blocks. */
  async #write(bytes: Uint8Array): Promise<void> {
    this.#blocks += bytes.length / TAR_BLOCK_BYTES;
    await this.#output(bytes);
  }

  /** Fills the last block of what is `lengthBytes` long. */
  async #fill(lengthBytes: number): Promise<void> {
    const whole = roundUp(lengthBytes, TAR_BLOCK_BYTES);
    this.#blocks += whole / TAR_BLOCK_BYTES;
    await this.#zeros(whole - lengthBytes);
  }

  async #zeros(count: number): Promise<void> {
    const zeros = new Uint8Array(Math.min(count, ZEROS_BYTES));
    for (let left = count; left > 0; left -= zeros.length) {
      await this.#output(zeros.subarray(0, Math.min(left, zeros.length)));
    }
  }
}

const NOTHING = new Uint8Array(0);
const ZEROS_BYTES = 128 * TAR_BLOCK_BYTES;

/** A path as a tar stream has it: "." for the root, and directories with a slash behind. */
function nameOf({ path, type }: TreeEntry): Uint8Array {
  const base = path.length === 0 ? encoder.encode(".") : path;
  if (type !== "directory") return base;
  const name = new Uint8Array(base.length + 1);
  name.set(base);
  name[base.length] = SLASH;
  return name;
}

function headerOf(entry: TreeEntry): Omit<TarHeader, "name" | "type" | "linkName" | "sizeBytes"> {
  const { mode, uid, gid, mtime, rdevMajor, rdevMinor } = entry;
  return { mode, uid, gid, mtimeSec: mtime.sec, devMajor: rdevMajor, devMinor: rdevMinor };
}

/** "-1.5" means half a second before -1 here: pax counts the fraction with the sign. */
function timeText({ sec, nsec }: Timespec): string {
  const isNegative = sec < 0;
  const whole = isNegative && nsec > 0 ? -sec - 1 : Math.abs(sec);
  const rest = isNegative && nsec > 0 ? 1_000_000_000 - nsec : nsec;
  const fraction = rest === 0 ? "" : `.${String(rest).padStart(9, "0")}`;
  return `${isNegative ? "-" : ""}${whole}${fraction}`;
}

/** The map of the form 1.0, in whole blocks. A file that ends in a hole has an empty last range. */
function sparseMap(sizeBytes: number, ranges: readonly DataRange[]): Uint8Array {
  const all = [...ranges];
  const last = all.at(-1);
  const end = last === undefined ? 0 : last.offsetBytes + last.lengthBytes;
  if (end < sizeBytes) all.push({ offsetBytes: sizeBytes, lengthBytes: 0 });
  const numbers = all.map(({ offsetBytes, lengthBytes }) => `${offsetBytes}\n${lengthBytes}\n`);
  const text = encoder.encode(`${all.length}\n${numbers.join("")}`);
  const map = new Uint8Array(roundUp(text.length, TAR_BLOCK_BYTES));
  map.set(text);
  return map;
}

function sparseRecords(entry: TreeEntry): Map<string, Uint8Array> {
  return new Map([
    ["GNU.sparse.major", encoder.encode("1")],
    ["GNU.sparse.minor", encoder.encode("0")],
    ["GNU.sparse.name", nameOf(entry)],
    ["GNU.sparse.realsize", encoder.encode(String(entry.sizeBytes))],
  ]);
}
