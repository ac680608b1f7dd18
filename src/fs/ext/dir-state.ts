/**
 * What is remembered about a directory while it is written, beside its blocks: how often it was
 * changed, where a name may fit, and, for a directory without index, where each name lies.
 *
 *     version      1, 2, 3 ..              a search that waited sees whether it must begin anew
 *     roomFrom     12 bytes: block 7       no block before 7 has room for a record of 12 bytes
 *                  264 bytes: block 9
 *     names        hash -> block           of the blocks 0..scanned, the rest is not known yet
 *
 * Without these, n names in a linear directory would cost n * n steps.
 *
 *  1. All of it is a hint but the version: a block that it names is searched as any other.
 *  2. An operation that is taken back leaves no hint behind: `forget`.
 *  3. `names` knows every name of the blocks before `scanned`. Two of one hash are known as
 *     `MANY`, for good: then all blocks are searched.
 */
import type { DirWalk } from "./dir-block.ts";
import type { ExtInode } from "./inode.ts";

/** Found in `blockOf`: names of this hash lie in several blocks, or did once. */
export const MANY = -1;
const REC_UNIT_BYTES = 4;
/** One place for each length of a record: up to 8 + 255 bytes, and 8 more with a stored hash. */
const REC_CLASSES = 68;
/** Names remembered of one directory; the others are searched for. */
const NAMES_MAX = 262_144;
const FNV_START = 0x811c9dc5;
const FNV_PRIME = 0x0100_0193;

function hashOf(bytes: Uint8Array, from: number, to: number): number {
  let hash = FNV_START;
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ bytes[at]!, FNV_PRIME);
  return hash;
}

/** Where the names of a linear directory lie, as far as it was looked through. */
export class DirNames {
  /** Blocks before this one are known. */
  scanned = 0;
  readonly #blocks = new Map<number, number>();

  /** False if no more blocks are taken in. */
  get hasRoom(): boolean {
    return this.#blocks.size < NAMES_MAX;
  }

  /** The one block that can hold `name`, `MANY`, or undefined if no known block has it. */
  blockOf(name: Uint8Array): number | undefined {
    return this.#blocks.get(hashOf(name, 0, name.length));
  }

  /** Notes the name under `walk`, in the block `scanned` that is being taken in. */
  note(walk: DirWalk): void {
    const { nameAt } = walk;
    this.#put(hashOf(walk.data, nameAt, nameAt + walk.nameBytes), this.scanned);
  }

  /** A name came into `fileBlock`. */
  add(name: Uint8Array, fileBlock: number): void {
    if (fileBlock < this.scanned) this.#put(hashOf(name, 0, name.length), fileBlock);
  }

  /** A name went. */
  remove(name: Uint8Array): void {
    const hash = hashOf(name, 0, name.length);
    if (this.#blocks.get(hash) !== MANY) this.#blocks.delete(hash);
  }

  #put(hash: number, fileBlock: number): void {
    this.#blocks.set(hash, this.#blocks.has(hash) ? MANY : fileBlock);
  }
}

/** See the head of the file. Made by `dirStateOf`. */
export class DirState {
  /** Counts the changes of the directory, also those taken back. */
  version = 0;
  names: DirNames | undefined = undefined;
  readonly #roomFrom = new Uint32Array(REC_CLASSES);

  /** The first block that may have room for a record of `recBytes`. */
  roomFrom(recBytes: number): number {
    return this.#roomFrom[recBytes / REC_UNIT_BYTES]!;
  }

  /** No block before `fileBlock` has room for a record of `recBytes`, nor for a longer one. */
  setFull(recBytes: number, fileBlock: number): void {
    for (let at = recBytes / REC_UNIT_BYTES; at < REC_CLASSES; at++) {
      if (this.#roomFrom[at]! < fileBlock) this.#roomFrom[at] = fileBlock;
    }
  }

  /** Block `fileBlock` has room for a record of `spareBytes` now. */
  setRoom(spareBytes: number, fileBlock: number): void {
    const last = Math.min(spareBytes / REC_UNIT_BYTES, REC_CLASSES - 1);
    for (let at = 0; at <= last; at++) {
      if (this.#roomFrom[at]! > fileBlock) this.#roomFrom[at] = fileBlock;
    }
  }

  /** All hints go: what they say may not hold any more. */
  forget(): void {
    this.version++;
    this.names = undefined;
    this.#roomFrom.fill(0);
  }
}

const states = new WeakMap<ExtInode, DirState>();

/** The state of `dir`, or undefined while nobody has changed it. */
export function knownDirState(dir: ExtInode): DirState | undefined {
  return states.get(dir);
}

/** The state of `dir`. */
export function dirStateOf(dir: ExtInode): DirState {
  let state = states.get(dir);
  if (state === undefined) {
    state = new DirState();
    states.set(dir, state);
  }
  return state;
}
