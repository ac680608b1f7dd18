/**
 * The options of `openImage` and `openVolume`, checked before anything is opened. What is left out
 * or undefined is not checked; options that nobody knows do nothing, as in Node.
 */
import { checkInteger, checkSignal, invalidArgType, invalidArgValue } from "./arguments.ts";
import { checkFlag, checkOptions } from "./option-checks.ts";
import type { VolumeOptions } from "./volume.ts";

const ID_MAX = 2 ** 32 - 2;
const UMASK_MAX = 0o777;
const FLAGS = ["noload", "salvage", "writable", "unlogged"] as const;
const CHOICES = {
  atime: ["relatime", "strictatime", "noatime"],
  data: ["ordered", "writeback", "journal"],
} as const;
const OBJECTS = ["journal", "clock", "random"] as const;

/**
 * Throws `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` or `ERR_OUT_OF_RANGE` for what the size of
 * the cache, which is checked when it is made, does not say.
 */
export function checkVolumeOptions(options: VolumeOptions): void {
  const given = checkOptions(options) as Record<string, unknown>;
  for (const name of FLAGS) checkFlag(given, name);
  for (const name of OBJECTS) checkObject(given[name], name);
  for (const [name, values] of Object.entries(CHOICES)) checkChoice(given[name], name, values);
  checkSignal(given["signal"]);
  const { partition, superblock, uid = 0, gid = 0, groups = [], umask = 0 } = given;
  if (partition !== undefined) checkInteger(partition, "options.partition");
  if (typeof superblock === "number") checkInteger(superblock, "options.superblock");
  else checkChoice(superblock, "superblock", ["primary", "backup"]);
  checkInteger(uid, "options.uid", 0, ID_MAX);
  checkInteger(gid, "options.gid", 0, ID_MAX);
  checkInteger(umask, "options.umask", 0, UMASK_MAX);
  if (!Array.isArray(groups)) throw invalidArgType("options.groups", "an Array", groups);
  for (const [at, id] of groups.entries()) checkInteger(id, `options.groups[${at}]`, 0, ID_MAX);
}

function checkObject(value: unknown, name: string): void {
  if (value === undefined || (typeof value === "object" && value !== null)) return;
  throw invalidArgType(`options.${name}`, "of type object", value);
}

function checkChoice(value: unknown, name: string, values: readonly string[]): void {
  if (value === undefined || values.includes(value as string)) return;
  const shown = values.map((known) => `'${known}'`).join(", ");
  throw invalidArgValue(`options.${name}`, value, `must be one of: ${shown}`);
}
