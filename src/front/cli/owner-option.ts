/** Owners and maps of ids as options of commands. */
import type { IdRange, OwnerChoice } from "../tree/tree-owners.ts";
import { UsageError } from "./command.ts";
import { printable } from "./output.ts";

const ID_MAX = 0xffff_fffe;

/** Options of commands that bring a tree into an image. */
export interface OwnerOptions {
  /** `uid:gid`, or false for `--no-owner`. */
  readonly owner?: string | boolean;
  readonly uidMap?: IdRange[];
  readonly gidMap?: IdRange[];
}

function idOf(text: string, name: string): number {
  const id = Number(text);
  if (/^\+?\d+$/.test(text) && id <= ID_MAX) return id;
  throw new UsageError(`${name} must be a number of a user or group, not "${printable(text)}"`);
}

/** `1000:100`, `1000` or `:100`; what is left out stays. */
export function parseOwner(text: string, name: string): { uid?: number; gid?: number } {
  const parts = text.split(/[:.]/);
  const [user = "", group = ""] = parts;
  if (parts.length > 2 || (user === "" && group === "")) {
    throw new UsageError(`${name} must be uid:gid, not "${printable(text)}"`);
  }
  return {
    ...(user === "" ? {} : { uid: idOf(user, name) }),
    ...(group === "" ? {} : { gid: idOf(group, name) }),
  };
}

/** Adds `FROM:TO[:COUNT]` to the ranges that are there, for an option that may come again. */
export function idRange(name: string): (text: string, ranges: IdRange[] | undefined) => IdRange[] {
  return (text, ranges = []) => {
    const parts = text.split(":");
    if (parts.length !== 2 && parts.length !== 3) {
      throw new UsageError(`${name} must be FROM:TO[:COUNT], not "${printable(text)}"`);
    }
    const [from, to, count = 1] = parts.map((part) => idOf(part, name));
    return [...ranges, { from: from!, to: to!, count }];
  };
}

/** What the options say. `--no-owner` means root, who always is in an image. */
export function ownerChoice(options: OwnerOptions): OwnerChoice {
  const { owner, uidMap, gidMap } = options;
  const fixed = owner === false ? { uid: 0, gid: 0 } : {};
  const given = typeof owner === "string" ? parseOwner(owner, "--owner") : fixed;
  return { ...given, uidMap, gidMap };
}
