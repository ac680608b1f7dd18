/**
 * ScriptedFile: a file without a file system, for tests of the cache: it records each read that the
 * cache asks for and completes it when the test says so.
 *
 * A run of readahead is one read, as a file system with one extent would make it; a single folio
 * is one too. Every page has bytes of its own (`pageBytes`), so that a wrong one shows.
 */
import type { AddressSpaceOperations } from "../../src/cache/address-space.ts";
import type { CacheFile } from "../../src/cache/cache-file.ts";
import type { Folio } from "../../src/cache/folio.ts";
import type { Inode } from "../../src/cache/inode.ts";
import type { ReadaheadControl } from "../../src/cache/readahead.ts";
import { EIO, type Errno } from "../../src/lib/errno.ts";
import { AsyncRwLock } from "../../src/lib/locks.ts";
import type { MaybeAsync } from "../../src/lib/maybe.ts";
import { PAGE_BYTES } from "../../src/lib/units.ts";

/** One read that the cache has asked for. */
export interface ScriptedRead {
  readonly first: number;
  readonly last: number;
  /** Page that carries the mark, or -1. */
  readonly mark: number;
  readonly isReadahead: boolean;
  readonly folios: readonly Folio[];
}

/** Bytes of page `index`: its number in front, then one value. */
export function fillPage(index: number, into: Uint8Array): void {
  into.fill((index * 37 + 11) & 0xff);
  into[0] = index;
  into[1] = index >>> 8;
  into[2] = index >>> 16;
  into[3] = index >>> 24;
}

/** What a read of the file at `posBytes` must give. */
export function expectedBytes(posBytes: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  const page = new Uint8Array(PAGE_BYTES);
  for (let done = 0; done < lengthBytes; ) {
    const pos = posBytes + done;
    const from = pos % PAGE_BYTES;
    const count = Math.min(PAGE_BYTES - from, lengthBytes - done);
    fillPage(Math.floor(pos / PAGE_BYTES), page);
    bytes.set(page.subarray(from, from + count), done);
    done += count;
  }
  return bytes;
}

export class ScriptedFile implements Inode, AddressSpaceOperations {
  readonly ino: number = 1;
  size: number;
  readonly blockBytes: number = PAGE_BYTES;
  readonly rwsem: AsyncRwLock = new AsyncRwLock();
  /** All reads so far, in the order of their submission. */
  readonly reads: ScriptedRead[] = [];
  /** Pages whose read fails, each as often as the number says. */
  readonly failures: Map<number, number> = new Map();
  /** While true, reads are kept back until `release`. */
  isGated = false;
  /** While true, reads complete inside the call that asks for them, as those of inline data do. */
  isImmediate = false;
  /** While true, pages are not filled: for counts over large files. */
  isBlank = false;
  /** Called before a readahead takes folios; may throw, or wait. */
  onReadahead: (rac: ReadaheadControl) => MaybeAsync<void> = () => {};
  /** Called before a single folio is read; a negative errno or a throw means that it was not. */
  onReadFolio: (folio: Folio) => MaybeAsync<Errno> = () => 0;
  readonly #held: ScriptedRead[] = [];

  constructor(size: number) {
    this.size = size;
  }

  /** The reads as "0-3 m1", "7": pages, and the page with the mark. */
  get log(): string[] {
    return this.reads.map(({ first, last, mark }) => {
      const pages = first === last ? `${first}` : `${first}-${last}`;
      return mark === -1 ? pages : `${pages} m${mark}`;
    });
  }

  readFolio(_file: CacheFile | null, folio: Folio): MaybeAsync<Errno> {
    const status = this.onReadFolio(folio);
    if (status instanceof Promise) return status.then((known) => this.#readOne(folio, known));
    return this.#readOne(folio, status);
  }

  readahead(rac: ReadaheadControl): MaybeAsync<void> {
    const ready = this.onReadahead(rac);
    return ready instanceof Promise ? ready.then(() => this.#readRun(rac)) : this.#readRun(rac);
  }

  /** Completes the first `count` reads that are held back. */
  release(count: number = this.#held.length): void {
    for (const read of this.#held.splice(0, count)) this.#complete(read);
  }

  #readOne(folio: Folio, status: Errno): Errno {
    if (status === 0) this.#submit([folio], false);
    return status;
  }

  #readRun(rac: ReadaheadControl): void {
    const folios: Folio[] = [];
    for (let folio = rac.next(); folio !== null; folio = rac.next()) folios.push(folio);
    if (folios.length > 0) this.#submit(folios, true);
  }

  #submit(folios: readonly Folio[], isReadahead: boolean): void {
    const end = folios.at(-1)!;
    const read: ScriptedRead = {
      first: folios[0]!.index,
      last: end.index + end.pageCount - 1,
      mark: folios.find((folio) => folio.isReadahead)?.index ?? -1,
      isReadahead,
      folios,
    };
    this.reads.push(read);
    if (this.isGated) this.#held.push(read);
    else if (this.isImmediate) this.#complete(read);
    else void Promise.resolve().then(() => this.#complete(read));
  }

  #complete(read: ScriptedRead): void {
    for (const folio of read.folios) folio.endRead(this.#fill(folio) === 0);
  }

  #fill(folio: Folio): Errno {
    let status = 0;
    for (let page = 0; page < folio.pageCount; page++) {
      const index = folio.index + page;
      const failuresLeft = this.failures.get(index) ?? 0;
      if (failuresLeft > 0) {
        this.failures.set(index, failuresLeft - 1);
        status = -EIO;
      }
      if (!this.isBlank)
        fillPage(index, folio.bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
    }
    return status;
  }
}
