/**
 * Which images quire reads but does not write, and why: accounts it does not keep, and structures
 * that it would leave wrong.
 *
 * After section "Feature sets" of the kernel's ext4 documentation.
 */
import { le16 } from "../../lib/bytes.ts";
import {
  featureNames,
  RO_COMPAT_BIGALLOC,
  RO_COMPAT_QUOTA,
  RO_COMPAT_READONLY,
  RO_COMPAT_SHARED_BLOCKS,
  unknownRoCompat,
} from "./features.ts";
import { SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

const CREATOR_HURD = 1;

/** Features by which an image may be read only, each with what it means for a writer. */
const REFUSED: readonly (readonly [bit: number, why: string])[] = [
  [RO_COMPAT_BIGALLOC, "its blocks are allocated in clusters (bigalloc)"],
  [RO_COMPAT_QUOTA, "it keeps accounts of what users may store (quota)"],
  [RO_COMPAT_READONLY, "it is marked as read-only (read-only)"],
  [RO_COMPAT_SHARED_BLOCKS, "its files share blocks (shared_blocks)"],
];
/** Leftovers of experiments, whose structures a writer would have to know. */
const REFUSED_NAMES: readonly string[] = ["lazy_bg", "exclude_bitmap", "has_snapshot", "replica"];

/**
 * True if a user may take the blocks that are kept for root: root, and whom the superblock names
 * (`ext4_has_free_clusters`).
 */
export function mayUseReserve(sb: Superblock, uid: number, gids: readonly number[]): boolean {
  if (uid === 0 || uid === le16(sb.raw, SB.s_def_resuid)) return true;
  const group = le16(sb.raw, SB.s_def_resgid);
  return group !== 0 && gids.includes(group);
}

/** Why a volume with superblock `sb` may only be read; undefined if it may be written. */
export function writeRefusal(sb: Superblock): string | undefined {
  const unknown = unknownRoCompat(sb.features);
  if (unknown.length > 0) return `it has features not known: ${unknown.join(", ")}`;
  const refused = REFUSED.find(([bit]) => sb.hasRoCompat(bit));
  if (refused !== undefined) return refused[1];
  const { compat, roCompat } = featureNames(sb.features);
  const odd = [...compat, ...roCompat].filter((name) => REFUSED_NAMES.includes(name));
  if (odd.length > 0) return `it has features of experiments: ${odd.join(", ")}`;
  if (sb.creatorOs === CREATOR_HURD) return "its inodes have the form of the GNU Hurd";
  return undefined;
}
