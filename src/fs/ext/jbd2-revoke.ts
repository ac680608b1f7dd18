/**
 * The revoke table: which home blocks were freed, and by which transaction last, so that copies
 * made before are not written over whatever the block became since.
 *
 * A revoke at transaction r suppresses every copy up to r, also one of r itself, wherever the two
 * stand in it. A copy of a later transaction is the block's next life and counts.
 *
 * After `fs/jbd2/revoke.c` of Linux (`jbd2_journal_set_revoke`, `jbd2_journal_test_revoke`). Left
 * out: the tables of a writer.
 */
import { isLaterTid } from "./jbd2-format.ts";

/** See the head of the file. Memory is O(distinct blocks). */
export class RevokeTable {
  readonly #lastTid = new Map<number, number>();

  /** Notes that transaction `tid` revoked `blocknr`; the latest counts. */
  add(blocknr: number, tid: number): void {
    const known = this.#lastTid.get(blocknr);
    if (known === undefined || isLaterTid(tid, known)) this.#lastTid.set(blocknr, tid);
  }

  /** True if a copy of `blocknr` that transaction `tid` made is not to be replayed. */
  isRevoked(blocknr: number, tid: number): boolean {
    const revokeTid = this.#lastTid.get(blocknr);
    return revokeTid !== undefined && !isLaterTid(tid, revokeTid);
  }

  /** Takes the revoked ones out of `copies` and returns how many they were. */
  removeFrom(copies: Map<number, { readonly tid: number }>): number {
    let removed = 0;
    for (const blocknr of this.#lastTid.keys()) {
      const copy = copies.get(blocknr);
      if (copy === undefined || !this.isRevoked(blocknr, copy.tid)) continue;
      copies.delete(blocknr);
      removed++;
    }
    return removed;
  }
}
