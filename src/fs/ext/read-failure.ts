/** Why the data of a file cannot be found, kept on its page cache: a reader gets an errno alone. */
import { FsError } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import type { ExtInode } from "./inode.ts";

/** Does `task`, which maps blocks of `inode`; what it throws is noted, and thrown on. */
export function noteFailure<T>(inode: ExtInode, task: () => MaybeAsync<T>): MaybeAsync<T> {
  const note = (thrown: unknown): never => {
    if (thrown instanceof FsError && inode.mapping !== undefined) {
      inode.mapping.readFailure = thrown;
    }
    throw thrown;
  };
  try {
    const result = task();
    return isPromise(result) ? result.catch(note) : result;
  } catch (thrown) {
    return note(thrown);
  }
}
