/**
 * What runs a file as somebody else goes when its content or owner changes: the setuid and setgid
 * bits unless root does it, and capabilities whoever does it.
 *
 * An open file that was found to have no capabilities remembers the epoch; while that stays, a
 * write costs one comparison.
 *
 * After `file_remove_privs` of `fs/inode.c` and `cap_inode_killpriv` of `security/commoncap.c`.
 */
import type { Caller } from "../fs/permission.ts";
import type { FileSystem, VfsInode } from "../fs/vfs.ts";
import type { AttributeChange } from "../fs/vfs-write.ts";
import { andThen, type MaybeAsync } from "../lib/maybe.ts";
import { droppedMode, ownerChange } from "./attributes.ts";

const CAPABILITIES = "security.capability";

/** See the head of the file. */
export class Privileges {
  readonly #fileSystem: FileSystem;
  readonly #caller: Caller;
  #epoch = 0;

  constructor(fileSystem: FileSystem, caller: Caller) {
    this.#fileSystem = fileSystem;
    this.#caller = caller;
  }

  /** Another number than before once some file may have got capabilities. */
  get epoch(): number {
    return this.#epoch;
  }

  /** To be called by whoever has changed extended attributes. */
  mayHaveBeenGiven(): void {
    this.#epoch++;
  }

  /** Before the content of `inode` changes. */
  drop(inode: VfsInode): MaybeAsync<void> {
    return andThen(this.dropCapabilities(inode), () => this.dropMode(inode));
  }

  /** The bits of the mode alone. */
  dropMode(inode: VfsInode): MaybeAsync<void> {
    const caller = this.#caller;
    const mode = caller.uid === 0 ? undefined : droppedMode(inode, caller);
    if (mode !== undefined) return this.#fileSystem.writer?.setAttributes(inode, { mode });
  }

  /** Before `inode` gets an owner. */
  dropCapabilities(inode: VfsInode): MaybeAsync<void> {
    if (inode.type !== "file") return undefined;
    return andThen(this.#fileSystem.xattrs(inode), (xattrs) => {
      if (!xattrs.has(CAPABILITIES)) return;
      return this.#fileSystem.writer?.setXattr(inode, CAPABILITIES, null, 0);
    });
  }

  /** What the caller's `chown` changes; -1 leaves an id as it is. */
  chowning(inode: VfsInode, uid: number, gid: number): MaybeAsync<AttributeChange> {
    return andThen(this.dropCapabilities(inode), () => ownerChange(inode, uid, gid, this.#caller));
  }
}
