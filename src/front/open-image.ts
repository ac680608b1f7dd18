/**
 * `openImage(spec)`: from what a user has in hand to an open volume (Node's entry).
 *
 * A `spec` is a path, a `file:` URL, the bytes of an image, or a store of any kind.
 */
import { fileURLToPath } from "node:url";
import { openFileStore } from "../store/file-store.ts";
import { MemoryStore } from "../store/memory-store.ts";
import type { Store } from "../store/store.ts";
import { invalidArgType } from "./arguments.ts";
import { type CachedFile, type CachedOptions, cached as cachedStore } from "./cached.ts";
import { checkOptions } from "./option-checks.ts";
import { openVolume, type Volume, type VolumeOptions } from "./volume.ts";
import { checkVolumeOptions } from "./volume-options.ts";

/** What an image may be given as. */
export type ImageSpec = string | URL | Uint8Array | Store;

/**
 * The options of `openVolume`, with the external journal as anything that an image may be given as.
 */
export interface OpenImageOptions extends Omit<VolumeOptions, "journal"> {
  readonly journal?: ImageSpec | undefined;
}

/**
 * The store behind `spec`, opened for reading only, or also for writing, which nobody else may then
 * do at the same time. Throws what opening the file throws: `ENOENT`, `EACCES`, `EBUSY`.
 */
export async function storeOf(spec: ImageSpec, writable = false): Promise<Store> {
  if (spec instanceof Uint8Array) {
    return new MemoryStore(spec, { name: "memory", canWrite: writable });
  }
  const options = { writable, exclusive: writable };
  if (spec instanceof URL) return openFileStore(fileURLToPath(spec), options);
  if (typeof spec === "string") {
    return openFileStore(spec.startsWith("file:") ? fileURLToPath(spec) : spec, options);
  }
  if (typeof spec === "object" && spec !== null && typeof spec.read === "function") return spec;
  throw invalidArgType("spec", "of type string or an instance of URL, Uint8Array or Store", spec);
}

/**
 * Opens the ext2/3/4 file system in `spec`. Without `writable` the image is never written.
 *
 * @throws {FsError} `ENOENT`/`EACCES` for the file, `EINVAL` where there is no such file system or
 *   the partition is not clear, `EUCLEAN`/`EBADMSG` for a damaged image, `EOPNOTSUPP` for unknown
 *   features
 */
export async function openImage(spec: ImageSpec, options: OpenImageOptions = {}): Promise<Volume> {
  const { journal, ...rest } = checkOptions(options);
  checkVolumeOptions(rest);
  const store = await storeOf(spec, options.writable);
  if (journal === undefined) return openVolume(store, rest);
  let journalStore: Store;
  try {
    journalStore = await storeOf(journal, options.writable);
  } catch (error) {
    await store.close();
    throw error;
  }
  return openVolume(store, { ...rest, journal: journalStore });
}

/** Opens `spec` as one plain file behind the page cache, whatever is in it. */
export async function cached(spec: ImageSpec, options: CachedOptions = {}): Promise<CachedFile> {
  return cachedStore(await storeOf(spec), options);
}
