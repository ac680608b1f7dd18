/** Paths by their components: the last one, as the kernel sorts it (`LAST_NORM` and the others). */

const SLASH = 0x2f;
const DOT: Uint8Array = new Uint8Array([0x2e]);

/** See the head of the file. */
export interface LastName {
  readonly kind: "name" | "." | ".." | "/";
  readonly name: Uint8Array;
  readonly hasSlash: boolean;
  /** The path without what stands behind the last component. */
  readonly bare: Uint8Array;
  readonly parent: Uint8Array;
}

/** Takes the last component off `path`. */
export function lastNameOf(path: Uint8Array): LastName {
  let end = path.length;
  while (end > 0 && path[end - 1] === SLASH) end--;
  let from = end;
  while (from > 0 && path[from - 1] !== SLASH) from--;
  const name = path.subarray(from, end);
  const isDots = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
  const dots = name.length === 1 ? "." : "..";
  const kind = name.length === 0 ? "/" : isDots ? dots : "name";
  const parent = from === 0 ? DOT : path.subarray(0, from);
  return { kind, name, hasSlash: end < path.length, bare: path.subarray(0, end), parent };
}

/** `directory/name`. */
export function joined(directory: Uint8Array, name: Uint8Array): Uint8Array {
  const path = new Uint8Array(directory.length + 1 + name.length);
  path.set(directory);
  path[directory.length] = SLASH;
  path.set(name, directory.length + 1);
  return path;
}
