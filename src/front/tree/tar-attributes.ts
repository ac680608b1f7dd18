/**
 * Extended attributes and access control lists of a file as records of pax.
 *
 *     SCHILY.xattr.NAME=bytes       GNU tar --xattrs, bsdtar, star, Go; in NAME "=" is %3D, "%" %25
 *     SCHILY.acl.access=text        GNU tar --acls, bsdtar: user::rw-,user:1000:r--,..
 *     SCHILY.acl.default=text       of a directory
 *
 * Lists are written in both forms: GNU tar with --acls heeds the text alone, others the attribute
 * alone. Where a stream has both, the attribute counts, since it holds ids and no names.
 *
 * After star(5), `tar(5)` of libarchive and what GNU tar writes.
 */
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_UNDEFINED_ID,
  ACL_USER,
  ACL_USER_OBJ,
  type AclEntry,
  aclFromUser,
  aclToText,
  aclToUser,
} from "../../fs/ext/acl.ts";
import { modeWithAcl } from "../../fs/ext/acl-rules.ts";
import { FsError } from "../../lib/errno.ts";
import { NO_XATTRS } from "./tree-entry.ts";

const XATTR_PREFIX = "SCHILY.xattr.";
const LISTS: readonly (readonly [record: string, attribute: string])[] = [
  ["SCHILY.acl.access", "system.posix_acl_access"],
  ["SCHILY.acl.default", "system.posix_acl_default"],
];
const ACCESS_LIST = "system.posix_acl_access";
const ID_MAX = 0xffff_fffe;
/** With an id, and without. */
const TAGS: ReadonlyMap<string, readonly [named: number | undefined, own: number]> = new Map([
  ["user", [ACL_USER, ACL_USER_OBJ]],
  ["group", [ACL_GROUP, ACL_GROUP_OBJ]],
  ["mask", [undefined, ACL_MASK]],
  ["other", [undefined, ACL_OTHER]],
]);
/** The order in which lists are kept. */
const TAG_ORDER = [ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER];
const PERMISSIONS: Readonly<Record<string, number>> = { r: 4, w: 2, x: 1, "-": 0 };

function wrong(detail: string): FsError {
  return new FsError("EINVAL", { detail });
}

/** One entry of a list: `user:NAME:rwx[:ID]`, NAME a number, or nobody. */
function aclEntryOf(text: string): AclEntry {
  const parts = text.replace(/^d(?:efault)?:/, "").split(":");
  const [word = "", who = "", last = ""] = parts;
  // "mask:rwx" is short for "mask::rwx".
  const letters = parts.length === 2 ? who : last;
  const tags = [...TAGS].find(([name]) => word !== "" && name.startsWith(word))?.[1];
  if (tags === undefined || !/^[-rwx]{0,3}$/.test(letters)) {
    throw wrong(`"${text}" is no entry of an access control list`);
  }
  const perm = [...letters].reduce((bits, letter) => bits | PERMISSIONS[letter]!, 0);
  const [named, own] = tags;
  const name = parts.length === 2 ? "" : who;
  if (named === undefined || name === "") return { tag: own, perm, id: ACL_UNDEFINED_ID };
  const id = Number(parts[3] ?? name);
  if (Number.isInteger(id) && id >= 0 && id <= ID_MAX) return { tag: named, perm, id };
  throw wrong(`an access control list names "${name}", whose number is not known`);
}

/** A list from its text, in the form of an attribute. */
export function aclOfText(text: string): Uint8Array {
  const entries = text
    .split(/[,\n]/)
    .map((part) => part.replace(/#.*/, "").trim())
    .filter((part) => part !== "")
    .map(aclEntryOf);
  const place = ({ tag, id }: AclEntry): number => TAG_ORDER.indexOf(tag) * 2 ** 33 + id;
  return aclToUser(entries.sort((a, b) => place(a) - place(b)));
}

/** The attributes that records tell of; `onOdd` is told of a list that cannot be used. */
export function xattrsOfRecords(
  records: ReadonlyMap<string, Uint8Array>,
  onOdd: (error: FsError) => void,
): ReadonlyMap<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>();
  for (const [key, value] of records) {
    if (!key.startsWith(XATTR_PREFIX)) continue;
    const name = key.slice(XATTR_PREFIX.length).replaceAll("%3D", "=").replaceAll("%25", "%");
    xattrs.set(name, value);
  }
  for (const [record, name] of LISTS) {
    const text = records.get(record);
    if (text === undefined || text.length === 0 || xattrs.has(name)) continue;
    try {
      xattrs.set(name, aclOfText(new TextDecoder().decode(text)));
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      onOdd(error);
    }
  }
  return xattrs.size === 0 ? NO_XATTRS : xattrs;
}

/** `mode` as the access control list among `xattrs` has it: a header may know the mask or not. */
export function modeOfXattrs(mode: number, xattrs: ReadonlyMap<string, Uint8Array>): number {
  const list = listOf(xattrs.get(ACCESS_LIST));
  return list === undefined ? mode : modeWithAcl(mode, list);
}

/** The records that tell of `xattrs`. */
export function recordsOfXattrs(
  xattrs: ReadonlyMap<string, Uint8Array>,
): readonly (readonly [key: string, value: Uint8Array])[] {
  const records: [string, Uint8Array][] = [];
  for (const [name, value] of xattrs) {
    const key = name.replaceAll("%", "%25").replaceAll("=", "%3D");
    records.push([`${XATTR_PREFIX}${key}`, value]);
  }
  for (const [record, name] of LISTS) {
    const list = listOf(xattrs.get(name));
    if (list !== undefined) records.push([record, new TextEncoder().encode(aclToText(list))]);
  }
  return records;
}

/** The entries of a list; undefined for what is none. */
function listOf(value: Uint8Array | undefined): readonly AclEntry[] | undefined {
  try {
    return value === undefined ? undefined : aclFromUser(value);
  } catch {
    return undefined;
  }
}
