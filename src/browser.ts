/**
 * quirefs for browsers: the same volumes over stores that need no `node:` module.
 *
 * `openImage` takes bytes or a store; there are no paths of a local disk here.
 */
import { type CachedFile, type CachedOptions, cached as cachedStore } from "./front/cached.ts";
import { openVolume, type Volume, type VolumeOptions } from "./front/volume.ts";
import { MemoryStore } from "./store/memory-store.ts";
import type { Store } from "./store/store.ts";

export { EAGAIN, FileHandle } from "./front/file-handle.ts";
export {
  type CheckVolumeOptions,
  checkVolume,
  type MakeVolumeOptions,
  makeVolume,
} from "./front/make-volume.ts";
export { VolumeFs } from "./front/promises.ts";
export {
  openVolume,
  Volume,
  type VolumeInfo,
  type VolumeOptions,
  type VolumeStats,
} from "./front/volume.ts";
export { type ErrnoCode, FsError } from "./lib/errno.ts";
export { MemoryStore } from "./store/memory-store.ts";
export type { Store, StoreCapabilities } from "./store/store.ts";

function storeOf(spec: Uint8Array | Store, canWrite = false): Store {
  return spec instanceof Uint8Array ? new MemoryStore(spec, { canWrite }) : spec;
}

/** Opens the ext2/3/4 file system in `spec`. Without `writable` it is never written. */
export async function openImage(
  spec: Uint8Array | Store,
  options: VolumeOptions = {},
): Promise<Volume> {
  return openVolume(storeOf(spec, options.writable), options);
}

/** Opens `spec` as one plain file behind the page cache. */
export async function cached(
  spec: Uint8Array | Store,
  options: CachedOptions = {},
): Promise<CachedFile> {
  return cachedStore(storeOf(spec), options);
}
