/**
 * Setting extended attributes by the names that users know, with the rules that the name brings.
 *
 *     user.*                     regular files and directories only
 *     system.posix_acl_*         checked, stored in another form; changes the mode (`acl-write.ts`)
 *     trusted.* security.* gnu.* as they are; who may is the caller's question
 *     all others                 not supported: also what the format keeps for itself
 *
 * After fs/xattr.c and fs/ext4/xattr_*.c of Linux.
 */
import { FsError } from "../../lib/errno.ts";
import { KIB } from "../../lib/units.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "../vfs-write.ts";
import { type AclKind, setAcl } from "./acl-write.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { APPEND_FL, IMMUTABLE_FL } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";
import {
  PREFIXES,
  XATTR_INDEX_ACL_ACCESS,
  XATTR_INDEX_ACL_DEFAULT,
  XATTR_INDEX_USER,
} from "./xattr.ts";
import { setStoredXattr, type XattrKey } from "./xattr-store.ts";

/** Longest name, with its prefix (`XATTR_NAME_MAX`), and largest value (`XATTR_SIZE_MAX`). */
const NAME_BYTES_MAX = 255;
const VALUE_BYTES_MAX = 64 * KIB;
const ESCAPE_FIRST = 0xdc80;
const ESCAPE_LAST = 0xdcff;

const encoder = new TextEncoder();

/** The bytes of `text`; lone surrogates U+DC80..U+DCFF are bytes that are not UTF-8. */
function encodeEscaped(text: string): Uint8Array {
  const parts: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (code >= ESCAPE_FIRST && code <= ESCAPE_LAST) parts.push(code & 0xff);
    else parts.push(...encoder.encode(character));
  }
  return Uint8Array.from(parts);
}

/**
 * How the attribute `name` is stored.
 *
 * @throws {FsError} `ERANGE` for a name of more than 255 bytes or none; `EOPNOTSUPP` for a prefix
 *   that users have no attributes of; `EINVAL` for a prefix alone or a NUL
 */
function keyOf(name: string): XattrKey {
  const nameBytes = encoder.encode(name).length;
  if (nameBytes === 0 || nameBytes > NAME_BYTES_MAX) throw new FsError("ERANGE");
  for (const [index, prefix] of PREFIXES) {
    if (!prefix.endsWith(".")) {
      if (name === prefix) return { index, name: new Uint8Array(0) };
      continue;
    }
    if (!name.startsWith(prefix)) continue;
    const rest = encodeEscaped(name.slice(prefix.length));
    if (rest.length === 0 || rest.includes(0)) throw new FsError("EINVAL");
    return { index, name: rest };
  }
  throw new FsError("EOPNOTSUPP", { detail: `attributes "${name}" cannot be set` });
}

function aclKindOf(index: number): AclKind | undefined {
  if (index === XATTR_INDEX_ACL_ACCESS) return "access";
  return index === XATTR_INDEX_ACL_DEFAULT ? "default" : undefined;
}

/**
 * Sets the attribute with the full name `name` to `value`, in the form of users, or removes it if
 * that is null (`ext4_xattr_set`). `flags` are `XATTR_CREATE`, `XATTR_REPLACE` or 0. An access
 * control list is set and removed whether it is there or not.
 *
 * @throws {FsError} `EEXIST`, `ENODATA` as `flags` say; `ENOSPC`; `E2BIG` above 64 KiB; `ERANGE`,
 *   `EINVAL`, `EOPNOTSUPP` for the name; `EPERM` for what is immutable or append-only, and for
 *   `user.` of what is no file and no directory; as `setAcl`; `EUCLEAN`/`EBADMSG`
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function setXattr(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  name: string,
  value: Uint8Array | null,
  flags: number,
): void {
  const key = keyOf(name);
  if (value !== null && value.length > VALUE_BYTES_MAX) throw new FsError("E2BIG");
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new FsError("EINVAL");
  if ((inode.flags & (IMMUTABLE_FL | APPEND_FL)) !== 0) throw new FsError("EPERM");
  const isUsers = inode.type === "file" || inode.type === "directory";
  if (key.index === XATTR_INDEX_USER && !isUsers) throw new FsError("EPERM");
  const kind = aclKindOf(key.index);
  if (kind === undefined) setStoredXattr(ctx, handle, inode, key, value, flags);
  else setAcl(ctx, handle, inode, kind, value); // Which asks for no `flags`.
  ctx.editInode(handle, inode);
  inode.setTime("ctime", ctx.now());
}
