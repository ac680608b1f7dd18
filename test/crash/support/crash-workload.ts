/**
 * Workloads as lines of text, done on a volume and followed by a model.
 *
 *     create a/y; write a/y 0 5000; fsync a/y; rename a/y b/x; pass 6000
 *
 *     create P   write P FROM COUNT   append P COUNT   truncate P SIZE   fallocate P FROM COUNT
 *     punch P FROM COUNT   rename P Q   link P Q   unlink P   mkdir P   rmdir P   symlink P
 *     setxattr P COUNT   tmpfile P COUNT (linked as P)   hold P   drop
 *     fsync P   fdatasync P   fsyncdir P   sync   start-sync   pass MS
 *
 * `hold` keeps a file open, `start-sync` does not wait, `pass` lets time pass.
 */
import type { FileHandle } from "../../../src/front/file-handle.ts";
import { O_RDWR, O_TMPFILE } from "../../../src/front/open-flags.ts";
import type { Volume } from "../../../src/front/volume.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../../src/fs/vfs-write.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { type CrashBase, fileBytes } from "./crash-base.ts";
import type { CrashClock } from "./crash-clock.ts";
import { CrashModel, CrashNode } from "./crash-model.ts";

/** What a workload is done with. */
export interface WorkloadParts {
  readonly base: CrashBase;
  readonly volume: Volume;
  readonly clock: CrashClock;
  /** Number of events of the disk so far. */
  readonly now: () => number;
}

type Step = (path: string, first: string, second: string) => Promise<void>;

/** See the head of the file. */
export class CrashWorkload {
  readonly model: CrashModel;
  /** What was done so far. */
  readonly done: string[] = [];
  readonly #volume: Volume;
  readonly #clock: CrashClock;
  readonly #held: FileHandle[] = [];
  readonly #started: Promise<void>[] = [];
  readonly #steps: Readonly<Record<string, Step>>;

  constructor({ base, volume, clock, now }: WorkloadParts) {
    let isBegun = false;
    this.model = new CrashModel(() => (isBegun ? now() : 0));
    this.#volume = volume;
    this.#clock = clock;
    this.#begin(base);
    isBegun = true;
    this.#steps = {
      create: (path) => this.#create(path),
      write: (path, from, count) => this.#write(path, Number(from), Number(count)),
      append: (path, count) => this.#write(path, this.#file(path).bytes.length, Number(count)),
      truncate: (path, size) => this.#truncate(path, Number(size)),
      fallocate: (path, from, count) => this.#fallocate(path, Number(from), Number(count)),
      punch: (path, from, count) => this.#punch(path, Number(from), Number(count)),
      rename: (from, to) => this.#rename(from, to),
      link: (from, to) => this.#link(from, to),
      unlink: (path) => this.#remove(path, (fs) => fs.unlink(`/${path}`)),
      mkdir: (path) => this.#make(path, new CrashNode("directory"), (fs) => fs.mkdir(`/${path}`)),
      rmdir: (path) => this.#remove(path, (fs) => fs.rmdir(`/${path}`)),
      symlink: (path) => this.#symlink(path),
      setxattr: (path, count) => this.#setXattr(path, Number(count)),
      tmpfile: (path, count) => this.#temporary(path, Number(count)),
      hold: async (path) => void this.#held.push(await volume.fs.open(`/${path}`, "r+")),
      drop: () => this.#drop(),
      fsync: (path) => this.#fsync(path, false),
      fdatasync: (path) => this.#fsync(path, true),
      fsyncdir: (path) => this.#fsyncDir(path),
      sync: () => this.#sync(),
      "start-sync": async () => void this.#started.push(this.#sync()),
    };
  }

  /** Does one step. What the file system refuses has not happened. */
  async step(text: string): Promise<void> {
    const [name = "", path = "", first = "", second = ""] = text.split(" ");
    if (name === "pass") {
      this.done.push(text);
      return this.#clock.pass(Number(path));
    }
    const step = this.#steps[name];
    if (step === undefined) throw new Error(`there is no step "${text}"`);
    this.done.push(text);
    await this.#clock.run(step(path, first, second));
  }

  /** Waits for what was started, and closes what is held. */
  async end(): Promise<void> {
    await this.#clock.run(Promise.all(this.#started));
    await this.#clock.run(this.#drop());
  }

  #begin(base: CrashBase): void {
    const nodes = new Map<string, CrashNode>();
    for (const [path, ino] of base.dirs) {
      const node = new CrashNode("directory");
      node.ino = ino;
      nodes.set(path, node);
    }
    for (const [path, { ino, content }] of base.files) {
      const node = new CrashNode("file");
      node.ino = ino;
      this.model.changeContent(node, content);
      nodes.set(path, node);
    }
    this.model.changeTree([...nodes.values()], (tree) => {
      for (const [path, node] of nodes) tree.set(path, node);
    });
    this.model.promiseAll()();
  }

  #file(path: string): CrashNode {
    const node = this.model.node(path);
    if (node === undefined) throw new Error(`there is no ${path}`);
    return node;
  }

  /** Bytes that nobody else has written. */
  #fresh(count: number): Uint8Array {
    return fileBytes(10_000 + this.done.length, count);
  }

  /** A change of names, which the model knows of before the volume does it. */
  async #named(
    touched: readonly CrashNode[],
    change: (nodes: Map<string, CrashNode>) => void,
    work: () => Promise<unknown>,
  ): Promise<void> {
    this.model.changeTree(touched, change);
    const number = this.model.treeNumber;
    try {
      await work();
    } catch (thrown) {
      if (!(thrown instanceof FsError) || number !== this.model.treeNumber) throw thrown;
      this.model.dropTree();
    }
  }

  async #make(
    path: string,
    node: CrashNode,
    work: (fs: Volume["fs"]) => Promise<unknown>,
  ): Promise<void> {
    const { fs } = this.#volume;
    const put = (nodes: Map<string, CrashNode>): void => void nodes.set(path, node);
    await this.#named([node], put, () => work(fs));
    if (this.model.node(path) === node) node.ino = (await fs.lstat(`/${path}`)).ino;
  }

  #create(path: string): Promise<void> {
    const node = new CrashNode("file");
    this.model.changeContent(node, new Uint8Array(0));
    return this.#make(path, node, async (fs) => (await fs.open(`/${path}`, "wx")).close());
  }

  #symlink(path: string): Promise<void> {
    const node = new CrashNode("symlink");
    node.target = "target/".repeat(11); // Longer than what an inode holds.
    return this.#make(path, node, (fs) => fs.symlink(node.target, `/${path}`));
  }

  async #write(path: string, from: number, count: number): Promise<void> {
    const node = this.#file(path);
    const bytes = this.#fresh(count);
    const content = new Uint8Array(Math.max(node.bytes.length, from + count));
    content.set(node.bytes);
    content.set(bytes, from);
    this.model.changeContent(node, content);
    await this.#opened(path, async (handle) => {
      for (let at = 0; at < count; ) {
        at += (await handle.write(bytes, at, count - at, from + at)).bytesWritten;
      }
    });
  }

  async #truncate(path: string, size: number): Promise<void> {
    const node = this.#file(path);
    const content = new Uint8Array(size);
    content.set(node.bytes.subarray(0, size));
    this.model.changeContent(node, content, true);
    await this.#volume.fs.truncate(`/${path}`, size);
  }

  async #fallocate(path: string, from: number, count: number): Promise<void> {
    const node = this.#file(path);
    const content = new Uint8Array(Math.max(node.bytes.length, from + count));
    content.set(node.bytes);
    await this.#allocate(path, node, content, 0, from, count);
  }

  async #punch(path: string, from: number, count: number): Promise<void> {
    const node = this.#file(path);
    const content = node.bytes.slice();
    content.fill(0, from, Math.min(content.length, from + count));
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    await this.#allocate(path, node, content, mode, from, count);
  }

  async #allocate(
    path: string,
    node: CrashNode,
    content: Uint8Array,
    mode: number,
    from: number,
    count: number,
  ): Promise<void> {
    const isResized = mode === 0 || from + count >= content.length;
    this.model.changeContent(node, content, isResized);
    const inode = await this.#volume.fs.inode(`/${path}`);
    try {
      await this.#volume.fileSystem.writer!.fallocate(inode, mode, from, count);
    } catch (thrown) {
      const isRefused = thrown instanceof FsError && thrown.code === "EOPNOTSUPP";
      if (!isRefused) throw thrown; // A file with a block map has none of it.
      node.contents.pop();
    }
  }

  async #rename(from: string, to: string): Promise<void> {
    const node = this.#file(from);
    const over = this.model.node(to);
    if (over === node) return this.#volume.fs.rename(`/${from}`, `/${to}`); // Nothing happens.
    const touched = over === undefined ? [node] : [node, over];
    const move = (nodes: Map<string, CrashNode>): void => {
      nodes.delete(from);
      nodes.set(to, node);
    };
    const { fs } = this.#volume;
    await this.#named(touched, move, async () => {
      if (over !== undefined && node.kind === "file") this.model.replace(node);
      await fs.rename(`/${from}`, `/${to}`);
    });
  }

  async #link(from: string, to: string): Promise<void> {
    const node = this.#file(from);
    const { fs } = this.#volume;
    await this.#named(
      [node],
      (nodes) => void nodes.set(to, node),
      () => fs.link(`/${from}`, `/${to}`),
    );
  }

  async #remove(path: string, work: (fs: Volume["fs"]) => Promise<void>): Promise<void> {
    const remove = (nodes: Map<string, CrashNode>): void => void nodes.delete(path);
    await this.#named([this.#file(path)], remove, () => work(this.#volume.fs));
  }

  async #setXattr(path: string, count: number): Promise<void> {
    const node = this.#file(path);
    const value = this.#fresh(count);
    const set = (): void => void node.xattrs.set("user.k", Buffer.from(value).toString("latin1"));
    const { fs } = this.#volume;
    await this.#named([node], set, () => fs.setXattr(`/${path}`, "user.k", value));
  }

  async #temporary(path: string, count: number): Promise<void> {
    const { fs } = this.#volume;
    const dir = `/${path.slice(0, path.lastIndexOf("/"))}`;
    const node = new CrashNode("file");
    this.model.changeContent(node, new Uint8Array(0));
    const handle = await fs.open(dir, O_TMPFILE | O_RDWR);
    try {
      const bytes = this.#fresh(count);
      this.model.changeContent(node, bytes);
      await handle.write(bytes, 0, count, 0);
      await this.#make(path, node, () => fs.link(handle, `/${path}`));
    } finally {
      await handle.close();
    }
  }

  async #opened(path: string, work: (handle: FileHandle) => Promise<void>): Promise<void> {
    const handle = await this.#volume.fs.open(`/${path}`, "r+");
    try {
      await work(handle);
    } finally {
      await handle.close();
    }
  }

  async #fsync(path: string, isDataOnly: boolean): Promise<void> {
    const node = this.#file(path);
    await this.#opened(path, async (handle) => {
      const keep = this.model.promise(isDataOnly ? node.born : node.tree, [node]);
      await (isDataOnly ? handle.datasync() : handle.sync());
      keep();
    });
  }

  async #fsyncDir(path: string): Promise<void> {
    const handle = await this.#volume.fs.open(`/${path}`, "r");
    try {
      const keep = this.model.promise(this.model.treeNumber, []);
      await handle.sync();
      keep();
    } finally {
      await handle.close();
    }
  }

  async #sync(): Promise<void> {
    const keep = this.model.promiseAll();
    await this.#volume.sync();
    keep();
  }

  async #drop(): Promise<void> {
    for (const handle of this.#held.splice(0)) await handle.close();
  }
}
