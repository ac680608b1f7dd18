/**
 * Who owns the files of a tree where it goes: as in the source, all one owner, or by a map of
 * ranges, as the kernel has them in `/proc/PID/uid_map`.
 */
import type { TreeEntry, TreeSource } from "./tree-entry.ts";

/** `count` ids from `from` on become those from `to` on. */
export interface IdRange {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

/** See the head of the file; what is left out stays. */
export interface OwnerChoice {
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly uidMap?: readonly IdRange[] | undefined;
  readonly gidMap?: readonly IdRange[] | undefined;
}

/** The id that `id` becomes; the first range that has it counts, and without one it stays. */
export function mappedId(id: number, map: readonly IdRange[] | undefined): number {
  const range = map?.find(({ from, count }) => id >= from && id < from + count);
  return range === undefined ? id : range.to + (id - range.from);
}

/** The owner of an entry after the choice. */
export function ownerOf(
  { uid, gid }: Pick<TreeEntry, "uid" | "gid">,
  choice: OwnerChoice,
): { readonly uid: number; readonly gid: number } {
  return {
    uid: choice.uid ?? mappedId(uid, choice.uidMap),
    gid: choice.gid ?? mappedId(gid, choice.gidMap),
  };
}

/** The same tree with the owners chosen. */
export async function* withOwners(source: TreeSource, choice: OwnerChoice): TreeSource {
  for await (const entry of source) yield { ...entry, ...ownerOf(entry, choice) };
}
