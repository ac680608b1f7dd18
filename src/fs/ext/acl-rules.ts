/**
 * What POSIX access control lists mean beside mode bits: which lists are valid, which say no more
 * than a mode, what a new file gets of its directory, what chmod does to a list.
 *
 *     mode  rwx r-x r--         list with a mask         list without
 *            |   |   |          owner   = user_obj       owner = user_obj
 *            |   |   +--------- other   = other          other = other
 *            |   +------------- group   = mask           group = group_obj
 *            +----------------- ..
 *
 * After fs/posix_acl.c of Linux (`posix_acl_valid`, `posix_acl_equiv_mode`,
 * `posix_acl_create_masq`, `__posix_acl_chmod_masq`).
 */
import { FsError } from "../../lib/errno.ts";
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  type AclEntry,
} from "./acl.ts";

const PERMISSIONS = 0o777;
const RWX = 7;
const ID_UNDEFINED = 0xffff_ffff;
/** Tags in the order in which a list has them; equal ones may follow each other where ids tell. */
const TAG_ORDER: readonly number[] = [
  ACL_USER_OBJ,
  ACL_USER,
  ACL_GROUP_OBJ,
  ACL_GROUP,
  ACL_MASK,
  ACL_OTHER,
];

function isNamed(entry: AclEntry): boolean {
  return entry.tag === ACL_USER || entry.tag === ACL_GROUP;
}

/** Throws `EINVAL` unless `acl` is a complete list in the order of its tags (`posix_acl_valid`). */
export function checkAcl(acl: readonly AclEntry[]): void {
  const bad = (what: string): FsError =>
    new FsError("EINVAL", { detail: `access control list: ${what}` });
  let last = -1;
  for (const entry of acl) {
    const rank = TAG_ORDER.indexOf(entry.tag);
    if (rank < 0) throw bad(`there is no tag ${entry.tag}`);
    if ((entry.perm & ~RWX) !== 0) throw bad(`e_perm is ${entry.perm}`);
    if (rank < last || (rank === last && !isNamed(entry))) throw bad("its entries have no order");
    if (isNamed(entry) && entry.id === ID_UNDEFINED) throw bad("an entry has no id");
    last = rank;
  }
  const has = (tag: number): boolean => acl.some((entry) => entry.tag === tag);
  if (!has(ACL_USER_OBJ) || !has(ACL_GROUP_OBJ) || !has(ACL_OTHER)) {
    throw bad("an entry for owner, group or others is missing");
  }
  if (acl.some(isNamed) && !has(ACL_MASK)) throw bad("it names somebody and has no mask");
}

/** True if a mode says all that `acl` says (`posix_acl_equiv_mode`). */
export function isPlainAcl(acl: readonly AclEntry[]): boolean {
  return acl.every((entry) => !isNamed(entry) && entry.tag !== ACL_MASK);
}

/** The entry that the group bits of a mode stand for. */
function groupTag(acl: readonly AclEntry[]): number {
  return acl.some((entry) => entry.tag === ACL_MASK) ? ACL_MASK : ACL_GROUP_OBJ;
}

/** How far left the bits of a mode lie that `tag` stands for; -1 if for none. */
function shiftOf(tag: number, group: number): number {
  if (tag === ACL_USER_OBJ) return 6;
  if (tag === group) return 3;
  return tag === ACL_OTHER ? 0 : -1;
}

/** `mode` with the permissions that `acl` stands for. */
export function modeWithAcl(mode: number, acl: readonly AclEntry[]): number {
  const group = groupTag(acl);
  let bits = 0;
  for (const { tag, perm } of acl) {
    const shift = shiftOf(tag, group);
    if (shift >= 0) bits |= perm << shift;
  }
  return (mode & ~PERMISSIONS) | bits;
}

/** `acl` with the permissions of `mode` (chmod). */
export function aclWithMode(acl: readonly AclEntry[], mode: number): readonly AclEntry[] {
  const group = groupTag(acl);
  return acl.map((entry) => {
    const shift = shiftOf(entry.tag, group);
    return shift < 0 ? entry : { ...entry, perm: (mode >>> shift) & RWX };
  });
}

/** What a new inode begins with. */
export interface InheritedAcl {
  /** Type and permissions. */
  readonly mode: number;
  /** Undefined where the mode says all. */
  readonly access: readonly AclEntry[] | undefined;
  /** Of a directory. */
  readonly initial: readonly AclEntry[] | undefined;
}

/**
 * What a new inode of `mode` gets in a directory whose default list is `initial`, undefined for
 * none (`posix_acl_create`): the list says what `umask` would say else. Symlinks get nothing.
 */
export function inheritAcl(
  initial: readonly AclEntry[] | undefined,
  mode: number,
  umask: number,
  kind: "directory" | "symlink" | "other",
): InheritedAcl {
  if (kind === "symlink") return { mode, access: undefined, initial: undefined };
  if (initial === undefined || initial.length === 0) {
    return { mode: mode & ~(umask & PERMISSIONS), access: undefined, initial: undefined };
  }
  const group = groupTag(initial);
  const access = initial.map((entry) => {
    const shift = shiftOf(entry.tag, group);
    return shift < 0 ? entry : { ...entry, perm: entry.perm & (mode >>> shift) & RWX };
  });
  return {
    mode: modeWithAcl(mode, access),
    access: isPlainAcl(initial) ? undefined : access,
    initial: kind === "directory" ? initial : undefined,
  };
}
