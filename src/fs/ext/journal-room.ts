/**
 * JournalRoom: places of the log made real before commits need them.
 *
 * In a sparse file the first write to a place makes the host allocate it, and so each flush after a
 * commit would be a commit of the host's own journal as well. So a small commit that comes to such
 * a place writes zeros far ahead, in the same request as its own blocks:
 *
 *     log     .. older .. [ image of 7 | 0 | 0 0 0 0 0 0 0 0 0 0 0 0 ] .. holes ..
 *                                      commit block  next commits
 *
 *  1. Only free blocks are made zeros: those between the head and the end of the log, in the first
 *     round of a mount, which begins where the log does. Later rounds find all places real.
 *  2. A recovery ends at zeros as at anything else that is no next block.
 *  3. Where zeros cannot be written, commits do without.
 */
import { KIB } from "../../lib/units.ts";
import type { JournalFile } from "./journal-file.ts";

/** What is made ahead at a time, in bytes. */
const AHEAD_BYTES = 256 * KIB;
/** Larger commits make room for themselves, in bytes. */
const SMALL_COMMIT_BYTES = 64 * KIB;

/** See the head of the file. One for each mount, whose log is empty. */
export class JournalRoom {
  readonly #file: JournalFile;
  readonly #zeros: Uint8Array;
  #isWanted: boolean;
  /** Everything before it, from the beginning of the log on, is real. */
  #end: number;

  constructor(file: JournalFile) {
    this.#file = file;
    this.#end = file.sb.first;
    this.#isWanted = file.device.allocatesOnWrite === true;
    this.#zeros = new Uint8Array(this.#isWanted ? AHEAD_BYTES : 0);
  }

  /**
   * Makes room for the commit block at `block` and for what comes after it, if there is none. To be
   * called for each commit, in the stretch of code in which its `imageBytes` before that block are
   * submitted. Never rejects.
   */
  makeAhead(block: number, imageBytes: number): Promise<void> | undefined {
    const { first, last, blockBytes } = this.#file.sb;
    const start = block - imageBytes / blockBytes;
    if (start < first) this.#isWanted = false; // The second round has begun.
    if (!this.#isWanted || block < this.#end) return undefined;
    this.#end = block + 1;
    if (imageBytes > SMALL_COMMIT_BYTES) return undefined;
    const count = Math.min(this.#zeros.length / blockBytes, last - block);
    this.#end = block + count;
    if (this.#end === last) this.#isWanted = false;
    const give = (): void => {
      this.#isWanted = false;
    };
    return this.#file.write(block, this.#zeros.subarray(0, count * blockBytes)).catch(give);
  }
}
