/**
 * Fast-commit areas made by hand: records laid into blocks as the kernel does, with PAD and TAIL.
 *
 *     const area = new FastCommitBuilder(7).add(creat(12, 16, "a")).commit();
 *     area.writeTo(log);                              // behind the log of a JournalBuilder
 */

import { putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { crc32c } from "../../src/lib/crc32c.ts";
import type { JournalBuilder } from "./journal-builder.ts";

const PAD = 7;
const TAIL = 8;
const HEAD = 9;

/** A record with its tag and length. */
export function record(tag: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + value.length);
  putLe16(bytes, 0, tag);
  putLe16(bytes, 2, value.length);
  bytes.set(value, 4);
  return bytes;
}

function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  for (const [index, value] of values.entries()) putLe32(bytes, index * 4, value);
  return bytes;
}

/** `storedLength` above 0x8000 is unwritten. */
export function addRange(
  ino: number,
  fileBlock: number,
  storedLength: number,
  physical: number,
): Uint8Array {
  const value = words(ino, fileBlock, 0, physical);
  putLe16(value, 8, storedLength);
  putLe16(value, 10, Math.floor(physical / 0x1_0000_0000));
  return record(1, value);
}

export function delRange(ino: number, fileBlock: number, count: number): Uint8Array {
  return record(2, words(ino, fileBlock, count));
}

function dentry(tag: number, parent: number, ino: number, name: string): Uint8Array {
  const text = Buffer.from(name, "latin1");
  const value = new Uint8Array(8 + text.length);
  value.set(words(parent, ino));
  value.set(text, 8);
  return record(tag, value);
}

export function creat(parent: number, ino: number, name: string): Uint8Array {
  return dentry(3, parent, ino, name);
}

export function link(parent: number, ino: number, name: string): Uint8Array {
  return dentry(4, parent, ino, name);
}

export function unlink(parent: number, ino: number, name: string): Uint8Array {
  return dentry(5, parent, ino, name);
}

/** Fields of an INODE record that cases look at. */
export interface InodeFields {
  readonly mode?: number;
  readonly size?: number;
  readonly links?: number;
  readonly flags?: number;
  readonly blocks?: number;
  readonly fileAcl?: number;
  readonly iBlock?: Uint8Array;
}

export function inode(ino: number, fields: InodeFields = {}): Uint8Array {
  const value = new Uint8Array(4 + 160);
  const raw = value.subarray(4);
  putLe32(value, 0, ino);
  putLe16(raw, 0x00, fields.mode ?? 0o100644);
  putLe32(raw, 0x04, fields.size ?? 0);
  putLe16(raw, 0x1a, fields.links ?? 1);
  putLe32(raw, 0x1c, fields.blocks ?? 0);
  putLe32(raw, 0x20, fields.flags ?? 0x8_0000);
  if (fields.iBlock !== undefined) raw.set(fields.iBlock, 0x28);
  putLe32(raw, 0x68, fields.fileAcl ?? 0);
  putLe16(raw, 0x80, 32);
  return record(6, value);
}

export class FastCommitBuilder {
  readonly tid: number;
  readonly blockBytes: number;
  /** Finished blocks; to be damaged. */
  readonly blocks: Uint8Array[] = [];
  #block: Uint8Array;
  #at = 0;
  #crc = 0;

  constructor(
    tid: number,
    options: { blockBytes?: number; features?: number; head?: boolean } = {},
  ) {
    this.tid = tid;
    this.blockBytes = options.blockBytes ?? 4096;
    this.#block = new Uint8Array(this.blockBytes);
    if (options.head !== false) this.add(record(HEAD, words(options.features ?? 0, tid)));
  }

  get room(): number {
    return this.blockBytes - this.#at;
  }

  /** Adds records; one that does not fit goes to the next block, with PAD before it. */
  add(...records: readonly Uint8Array[]): this {
    for (const bytes of records) {
      if (bytes.length > this.room) this.#pad();
      this.#put(bytes);
    }
    return this;
  }

  #put(bytes: Uint8Array): void {
    this.#block.set(bytes, this.#at);
    this.#at += bytes.length;
    this.#crc = crc32c(this.#crc, bytes);
    if (this.room === 0) this.#next();
  }

  #pad(): void {
    if (this.room >= 4) this.#put(record(PAD, new Uint8Array(this.room - 4)));
    else this.#next();
  }

  #next(): void {
    this.blocks.push(this.#block);
    this.#block = new Uint8Array(this.blockBytes);
    this.#at = 0;
  }

  /**
   * Ends a fast commit: TAIL over the rest of the block, which begins a new one if it does not fit.
   */
  commit(tid: number = this.tid): this {
    if (this.room < 12) this.#pad();
    const header = new Uint8Array(8);
    putLe16(header, 0, TAIL);
    putLe16(header, 2, this.room - 4);
    putLe32(header, 4, tid);
    this.#block.set(header, this.#at);
    putLe32(this.#block, this.#at + 8, crc32c(this.#crc, header));
    this.#crc = 0;
    this.#next();
    return this;
  }

  /** Puts the blocks, the begun one too, into the area behind the log of `log`. */
  writeTo(log: JournalBuilder): JournalBuilder {
    const all = this.#at > 0 ? [...this.blocks, this.#block] : this.blocks;
    for (const [index, block] of all.entries()) log.blocks.set(log.last + 1 + index, block);
    return log;
  }
}
