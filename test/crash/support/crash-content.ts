/**
 * The half of `CrashWorkload` that changes what is in files: done on a volume, and in the model.
 *
 * What takes several transactions may be found half done: the model is told of the stages, and
 * takes any mixture of them.
 */
import { filemapFlush } from "../../../src/cache/filemap-flush.ts";
import type { FileHandle } from "../../../src/front/file-handle.ts";
import { O_DSYNC, O_RDWR, O_SYNC } from "../../../src/front/open-flags.ts";
import type { Volume } from "../../../src/front/volume.ts";
import type { ExtInode } from "../../../src/fs/ext/inode.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../../../src/fs/vfs-write.ts";
import { FsError } from "../../../src/lib/errno.ts";
import type { CrashModel, CrashNode } from "./crash-model.ts";

/** What the file that is worked on, and its model, belong to. */
export interface ContentParts {
  readonly model: CrashModel;
  readonly volume: Volume;
  /** Bytes that nobody else has written. */
  readonly fresh: (count: number) => Uint8Array;
}

/** A stage of what an operation makes of a file. */
interface Stage {
  readonly bytes: Uint8Array;
  readonly isResized: boolean;
}

/** `bytes`, cut to `size` or with zeros behind it. */
function resized(bytes: Uint8Array, size: number): Uint8Array {
  const content = new Uint8Array(size);
  content.set(bytes.subarray(0, size));
  return content;
}

/** `bytes`, as long as they are, with zeros at `from..end`. */
function zeroed(bytes: Uint8Array, from: number, end: number): Uint8Array {
  return bytes.slice().fill(0, Math.min(from, bytes.length), Math.min(end, bytes.length));
}

/** See the head of the file. */
export class CrashContentSteps {
  readonly #model: CrashModel;
  readonly #volume: Volume;
  readonly #fresh: (count: number) => Uint8Array;

  constructor({ model, volume, fresh }: ContentParts) {
    this.#model = model;
    this.#volume = volume;
    this.#fresh = fresh;
  }

  /** Writes `count` bytes at `from`, durable on return with `O_DSYNC` or `O_SYNC` in `flags`. */
  async write(path: string, from: number, count: number, flags = 0): Promise<void> {
    const node = this.#node(path);
    const bytes = this.#fresh(count);
    const content = resized(node.bytes, Math.max(node.bytes.length, from + count));
    content.set(bytes, from);
    // It may make what is before it, and not written out yet, part of the file.
    this.#model.changeContent(node, content, flags !== 0);
    const tree = flags === O_SYNC ? node.tree : node.born;
    await this.opened(path, O_RDWR | flags, async (handle) => {
      for (let at = 0; at < count; ) {
        at += (await handle.write(bytes, at, count - at, from + at)).bytesWritten;
      }
      if (flags !== 0) this.#model.promiseRange(tree, node, from, from + count)();
    });
  }

  /** Writes with `O_DSYNC`. */
  dsync(path: string, from: number, count: number): Promise<void> {
    return this.write(path, from, count, O_DSYNC);
  }

  /** Writes with `O_SYNC`. */
  osync(path: string, from: number, count: number): Promise<void> {
    return this.write(path, from, count, O_SYNC);
  }

  /** Writes, and writes anew while that is on its way to the disk. */
  async writeTwice(path: string, from: number, count: number): Promise<void> {
    await this.write(path, from, count);
    const { mapping } = (await this.#volume.fs.inode(`/${path}`)) as ExtInode;
    if (mapping !== undefined) await filemapFlush(mapping);
    await this.write(path, from, count);
  }

  append(path: string, count: number): Promise<void> {
    return this.write(path, this.#node(path).bytes.length, count);
  }

  /** Cuts the file to nothing, and writes `count` bytes. */
  async rewrite(path: string, count: number): Promise<void> {
    const node = this.#node(path);
    this.#model.changeContent(node, new Uint8Array(0), true);
    const bytes = this.#fresh(count);
    this.#model.changeContent(node, bytes);
    await this.#volume.fs.writeFile(`/${path}`, bytes);
  }

  async truncate(path: string, size: number): Promise<void> {
    const node = this.#node(path);
    this.#model.changeContent(node, resized(node.bytes, size), true);
    await this.#volume.fs.truncate(`/${path}`, size);
  }

  async fallocate(path: string, from: number, count: number): Promise<void> {
    const { bytes } = this.#node(path);
    const stage = resized(bytes, Math.max(bytes.length, from + count));
    await this.#allocate(path, [{ bytes: stage, isResized: true }], 0, from, count);
  }

  async fallocateKeep(path: string, from: number, count: number): Promise<void> {
    await this.#allocate(path, [], FALLOC_FL_KEEP_SIZE, from, count);
  }

  async punch(path: string, from: number, count: number): Promise<void> {
    const { bytes } = this.#node(path);
    const stage = zeroed(bytes, from, from + count);
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const isResized = from + count >= bytes.length;
    await this.#allocate(path, [{ bytes: stage, isResized }], mode, from, count);
  }

  async zero(path: string, from: number, count: number): Promise<void> {
    const { bytes } = this.#node(path);
    const end = from + count;
    const stage = zeroed(resized(bytes, Math.max(bytes.length, end)), from, end);
    const isResized = end > bytes.length;
    await this.#allocate(path, [{ bytes: stage, isResized }], FALLOC_FL_ZERO_RANGE, from, count);
  }

  /** Takes `count` bytes out of the file: first a hole, then the rest moves, then the size. */
  async collapse(path: string, from: number, count: number): Promise<void> {
    const { bytes } = this.#node(path);
    const hole = zeroed(bytes, from, from + count);
    const rest = bytes.subarray(from + count);
    const moved = hole.slice();
    moved.set(rest, from);
    moved.fill(0, from + rest.length);
    const cut = moved.slice(0, from + rest.length);
    const stages = [hole, moved, cut].map((stage) => ({ bytes: stage, isResized: true }));
    await this.#allocate(path, stages, FALLOC_FL_COLLAPSE_RANGE, from, count);
  }

  /** Puts `count` zeros into the file: the size, then the rest moves, the last part first. */
  async insert(path: string, from: number, count: number): Promise<void> {
    const { bytes } = this.#node(path);
    const grown = resized(bytes, bytes.length + count);
    const moved = zeroed(grown, from, grown.length);
    moved.set(bytes.subarray(from), from + count);
    const hole = zeroed(grown, from, grown.length);
    const stages = [grown, hole, moved].map((stage) => ({ bytes: stage, isResized: true }));
    await this.#allocate(path, stages, FALLOC_FL_INSERT_RANGE, from, count);
  }

  /** Opens `path`, does `work` and closes it. */
  async opened(
    path: string,
    flags: number,
    work: (handle: FileHandle) => Promise<void>,
  ): Promise<void> {
    const handle = await this.#volume.fs.open(`/${path}`, flags);
    try {
      await work(handle);
    } finally {
      await handle.close();
    }
  }

  #node(path: string): CrashNode {
    const node = this.#model.node(path);
    if (node === undefined) throw new Error(`there is no ${path}`);
    return node;
  }

  async #allocate(
    path: string,
    stages: readonly Stage[],
    mode: number,
    from: number,
    count: number,
  ): Promise<void> {
    const node = this.#node(path);
    for (const { bytes, isResized } of stages) this.#model.changeContent(node, bytes, isResized);
    try {
      await this.opened(path, O_RDWR, (handle) => handle.fallocate(mode, from, count));
    } catch (thrown) {
      const isRefused = thrown instanceof FsError && thrown.code === "EOPNOTSUPP";
      if (!isRefused) throw thrown; // A file with a block map has none of it.
      node.contents.splice(node.contents.length - stages.length);
    }
  }
}
