/**
 * POSIX access control lists: the form on disk, the form that `getxattr` gives, and text.
 *
 *     on disk, version 1    u32 1 | u16 tag, u16 perm [, u32 id] | ..   id if the tag has one
 *     for users, version 2  u32 2 | u16 tag, u16 perm, u32 id | ..   ffffffff where it has none
 *     text                  user::rw-,user:1000:r--,group::r--,mask::rw-,other::---
 *
 * After fs/ext4/acl.c and fs/posix_acl.c of Linux; text after the short form of getfacl, ids
 * as numbers.
 */
import { le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";

const DISK_VERSION = 1;
const USER_VERSION = 2;
const HEADER_BYTES = 4;
const SHORT_ENTRY_BYTES = 4;
const FULL_ENTRY_BYTES = 8;

export const ACL_USER_OBJ = 0x01;
export const ACL_USER = 0x02;
export const ACL_GROUP_OBJ = 0x04;
export const ACL_GROUP = 0x08;
export const ACL_MASK = 0x10;
export const ACL_OTHER = 0x20;
/** The id of entries whose tag says who is meant. */
export const ACL_UNDEFINED_ID = 0xffff_ffff;

const TAG_WORDS: ReadonlyMap<number, string> = new Map([
  [ACL_USER_OBJ, "user"],
  [ACL_USER, "user"],
  [ACL_GROUP_OBJ, "group"],
  [ACL_GROUP, "group"],
  [ACL_MASK, "mask"],
  [ACL_OTHER, "other"],
]);

/** Who may do what: one entry of an access control list. */
export interface AclEntry {
  readonly tag: number;
  /** 4 read, 2 write, 1 execute. */
  readonly perm: number;
  /** User or group, `ACL_UNDEFINED_ID` unless the tag is `ACL_USER` or `ACL_GROUP`. */
  readonly id: number;
}

function hasId(tag: number): boolean {
  return tag === ACL_USER || tag === ACL_GROUP;
}

/**
 * Decodes the form on disk (`ext4_acl_from_disk`). `where` names the list in errors. A list without
 * entries is an empty one.
 *
 * @throws {FsError} `EUCLEAN` for another version, an unknown tag, or a length that the entries
 *   do not fill
 */
export function aclFromDisk(stored: Uint8Array, where: string): readonly AclEntry[] {
  const bad = (what: string): FsError => new FsError("EUCLEAN", { detail: `${where}: ${what}` });
  if (stored.length < HEADER_BYTES) throw bad(`it has ${stored.length} bytes`);
  const version = le32(stored, 0);
  if (version !== DISK_VERSION) throw bad(`a_version is ${version}`);
  const entries: AclEntry[] = [];
  for (let at = HEADER_BYTES; at < stored.length; ) {
    const restBytes = stored.length - at;
    if (restBytes < SHORT_ENTRY_BYTES) throw bad(`${restBytes} bytes are left over`);
    const tag = le16(stored, at);
    if (!TAG_WORDS.has(tag)) throw bad(`e_tag is ${tag}`);
    const entryBytes = hasId(tag) ? FULL_ENTRY_BYTES : SHORT_ENTRY_BYTES;
    if (restBytes < entryBytes) throw bad("its last entry is cut off");
    const id = hasId(tag) ? le32(stored, at + SHORT_ENTRY_BYTES) : ACL_UNDEFINED_ID;
    entries.push({ tag, perm: le16(stored, at + 2), id });
    at += entryBytes;
  }
  return entries;
}

/** Encodes the form on disk (`ext4_acl_to_disk`). */
export function aclToDisk(entries: readonly AclEntry[]): Uint8Array {
  const namedCount = entries.filter((entry) => hasId(entry.tag)).length;
  const lengthBytes =
    HEADER_BYTES +
    entries.length * SHORT_ENTRY_BYTES +
    namedCount * (FULL_ENTRY_BYTES - SHORT_ENTRY_BYTES);
  const bytes = new Uint8Array(lengthBytes);
  putLe32(bytes, 0, DISK_VERSION);
  let at = HEADER_BYTES;
  for (const { tag, perm, id } of entries) {
    putLe16(bytes, at, tag);
    putLe16(bytes, at + 2, perm);
    if (hasId(tag)) putLe32(bytes, at + SHORT_ENTRY_BYTES, id);
    at += hasId(tag) ? FULL_ENTRY_BYTES : SHORT_ENTRY_BYTES;
  }
  return bytes;
}

/** Encodes the form that users get as `system.posix_acl_access` (`posix_acl_to_xattr`). */
export function aclToUser(entries: readonly AclEntry[]): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + entries.length * FULL_ENTRY_BYTES);
  putLe32(bytes, 0, USER_VERSION);
  let at = HEADER_BYTES;
  for (const { tag, perm, id } of entries) {
    putLe16(bytes, at, tag);
    putLe16(bytes, at + 2, perm);
    putLe32(bytes, at + 4, id);
    at += FULL_ENTRY_BYTES;
  }
  return bytes;
}

/** Decodes the form that users get. Throws `EINVAL` for bytes that are not of that form. */
export function aclFromUser(bytes: Uint8Array): readonly AclEntry[] {
  const entryBytes = bytes.length - HEADER_BYTES;
  const isGood =
    entryBytes >= 0 && entryBytes % FULL_ENTRY_BYTES === 0 && le32(bytes, 0) === USER_VERSION;
  if (!isGood) throw new FsError("EINVAL", { detail: "no access control list of version 2" });
  const entries: AclEntry[] = [];
  for (let at = HEADER_BYTES; at < bytes.length; at += FULL_ENTRY_BYTES) {
    entries.push({ tag: le16(bytes, at), perm: le16(bytes, at + 2), id: le32(bytes, at + 4) });
  }
  return entries;
}

/** One line of text for `entries`, in their order. */
export function aclToText(entries: readonly AclEntry[]): string {
  return entries.map(entryToText).join(",");
}

function entryToText({ tag, perm, id }: AclEntry): string {
  const who = hasId(tag) ? String(id) : "";
  const letters = ["r", "w", "x"].map((letter, bit) => ((perm & (4 >> bit)) !== 0 ? letter : "-"));
  return `${TAG_WORDS.get(tag) ?? tag}:${who}:${letters.join("")}`;
}
