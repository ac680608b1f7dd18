/**
 * Room that is there, but not yet to be had: blocks and inodes that were freed by a transaction
 * under way. "No space left" is no answer while a commit brings some back.
 *
 * After `ext4_should_retry_alloc` in `fs/ext4/balloc.c` of Linux.
 */
import { hasErrnoCode } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import type { ExtWriter } from "./writer.ts";

/** True if `thrown` says that the disk is full, which it is not once freed room is to be had. */
function isForNow(ctx: ExtWriter, thrown: unknown): boolean {
  const isFull = hasErrnoCode(thrown) && thrown.code === "ENOSPC";
  return isFull && ctx.blocks.pendingCount + ctx.inodeBits.pendingCount > 0;
}

/**
 * Does `task`; if it meets `ENOSPC` while freed room waits for a commit, commits and does it once
 * more. A `task` that fails so has changed nothing that may not be done again.
 */
export function withFreedRoom<T>(ctx: ExtWriter, task: () => MaybeAsync<T>): MaybeAsync<T> {
  const again = async (thrown: unknown): Promise<T> => {
    if (!isForNow(ctx, thrown)) throw thrown;
    await ctx.transactions.commit();
    return task();
  };
  let done: MaybeAsync<T>;
  try {
    done = task();
  } catch (thrown) {
    if (!isForNow(ctx, thrown)) throw thrown;
    return again(thrown);
  }
  return isPromise(done) ? done.catch(again) : done;
}
