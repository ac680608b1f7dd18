/**
 * Workloads as lines of text, done on a volume and followed by a model.
 *
 *     create a/y; write a/y 0 5000; fsync a/y; rename a/y b/x; pass 6000
 *
 *     create P   write P FROM COUNT   append P COUNT   rewrite P COUNT   truncate P SIZE
 *     dsync P FROM COUNT   osync P FROM COUNT (writes with O_DSYNC, O_SYNC)
 *     write-twice P FROM COUNT (the second while the first is on its way)
 *     fallocate, fallocate-keep, punch, zero, collapse, insert P FROM COUNT
 *     rename P Q   exchange P Q   link P Q   unlink P   unlink-open P   mkdir P   rmdir P
 *     symlink P LENGTH   mkfifo P   tmpfile P COUNT (linked as P)   tmpfile-fsync P COUNT
 *     chmod P MODE   setxattr P COUNT   removexattr P   setacl P PERM   hold P   drop
 *     fsync P   fdatasync P   range P (sync_file_range)   fsyncdir P   sync   start-sync   pass MS
 *
 * `hold` keeps a file open, `start-sync` does not wait, `pass` lets time pass.
 */

import { CacheFile } from "../../../src/cache/cache-file.ts";
import {
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
  syncFileRange,
} from "../../../src/cache/sync-file-range.ts";
import type { FileHandle } from "../../../src/front/file-handle.ts";
import { O_RDWR, O_TMPFILE } from "../../../src/front/open-flags.ts";
import type { Volume } from "../../../src/front/volume.ts";
import type { ExtInode } from "../../../src/fs/ext/inode.ts";
import { RENAME_EXCHANGE } from "../../../src/fs/vfs-write.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { aclBytes, type CrashBase, fileBytes } from "./crash-base.ts";
import type { CrashClock } from "./crash-clock.ts";
import { CrashContentSteps } from "./crash-content.ts";
import { CrashModel, CrashNode, NAMELESS } from "./crash-model.ts";
import { factsOf } from "./crash-oracle.ts";

const S_IFIFO = 0o10000;
/** Of the first bytes that are written; those of the base have smaller ones. */
const FRESH_SEED = 10_000;
const ACL = "system.posix_acl_access";
const ALL_OF_RANGE =
  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

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
  #freshCount = 0;
  readonly #held: FileHandle[] = [];
  readonly #started: Promise<void>[] = [];
  readonly #content: CrashContentSteps;
  readonly #steps: Readonly<Record<string, Step>>;

  constructor({ base, volume, clock, now }: WorkloadParts) {
    let isBegun = false;
    this.model = new CrashModel(base.blockBytes, () => (isBegun ? now() : 0));
    this.#volume = volume;
    this.#clock = clock;
    this.#begin(base);
    isBegun = true;
    const fresh = (count: number): Uint8Array => this.#fresh(count);
    this.#content = new CrashContentSteps({ model: this.model, volume, fresh });
    this.#steps = { ...this.#contentSteps(), ...this.#nameSteps(), ...this.#syncSteps() };
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

  #contentSteps(): Record<string, Step> {
    const content = this.#content;
    const onRange =
      (work: (path: string, from: number, count: number) => Promise<void>): Step =>
      (path, from, count) =>
        work.call(content, path, Number(from), Number(count));
    return {
      write: onRange(content.write),
      "write-twice": onRange(content.writeTwice),
      dsync: onRange(content.dsync),
      osync: onRange(content.osync),
      append: (path, count) => content.append(path, Number(count)),
      rewrite: (path, count) => content.rewrite(path, Number(count)),
      truncate: (path, size) => content.truncate(path, Number(size)),
      fallocate: onRange(content.fallocate),
      "fallocate-keep": onRange(content.fallocateKeep),
      punch: onRange(content.punch),
      zero: onRange(content.zero),
      collapse: onRange(content.collapse),
      insert: onRange(content.insert),
    };
  }

  #nameSteps(): Record<string, Step> {
    return {
      create: (path) => this.#create(path),
      mkdir: (path) => this.#make(path, new CrashNode("directory"), (fs) => fs.mkdir(`/${path}`)),
      mkfifo: (path) =>
        this.#make(path, new CrashNode("special"), (fs) => fs.mknod(`/${path}`, S_IFIFO | 0o666)),
      symlink: (path, length) => this.#symlink(path, Number(length)),
      tmpfile: (path, count) => this.#temporary(path, Number(count), false),
      "tmpfile-fsync": (path, count) => this.#temporary(path, Number(count), true),
      rename: (from, to) => this.#rename(from, to),
      exchange: (from, to) => this.#exchange(from, to),
      link: (from, to) => this.#link(from, to),
      unlink: (path) => this.#remove(path, (fs) => fs.unlink(`/${path}`)),
      "unlink-open": async (path) => {
        await this.#hold(path);
        await this.#remove(path, (fs) => fs.unlink(`/${path}`));
      },
      rmdir: (path) => this.#remove(path, (fs) => fs.rmdir(`/${path}`)),
      chmod: (path, mode) => this.#chmod(path, Number.parseInt(mode, 8)),
      setxattr: (path, count) => this.#setXattr(path, this.#fresh(Number(count))),
      removexattr: (path) => this.#setXattr(path, undefined),
      setacl: (path, perm) => this.#setAcl(path, Number(perm)),
    };
  }

  #syncSteps(): Record<string, Step> {
    return {
      hold: (path) => this.#hold(path),
      drop: () => this.#drop(),
      fsync: (path) => this.#fsync(path, false),
      fdatasync: (path) => this.#fsync(path, true),
      range: (path) => this.#range(path),
      fsyncdir: (path) => this.#fsyncDir(path),
      sync: () => this.#sync(),
      "start-sync": async () => void this.#started.push(this.#sync()),
    };
  }

  #begin({ tree: { nodes: found, contents } }: CrashBase): void {
    const nodes = new Map<string, CrashNode>();
    for (const [path, { kind, ino, attributes, target }] of found) {
      const node = new CrashNode(kind);
      node.ino = ino;
      node.target = target;
      node.attributes = attributes;
      const content = contents.get(path);
      if (content !== undefined) this.model.changeContent(node, content);
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
    return fileBytes(FRESH_SEED + this.#freshCount++, count);
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
      if (thrown.code === "EIO" || thrown.code === "EROFS") throw thrown;
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
    if (this.model.node(path) !== node) return;
    const { ino, attributes } = await factsOf(fs, path);
    node.ino = ino;
    node.attributes.mode = attributes.mode;
    for (const [name, value] of attributes.xattrs) node.attributes.xattrs.set(name, value);
  }

  #create(path: string): Promise<void> {
    const node = new CrashNode("file");
    this.model.changeContent(node, new Uint8Array(0));
    return this.#make(path, node, async (fs) => (await fs.open(`/${path}`, "wx")).close());
  }

  #symlink(path: string, length: number): Promise<void> {
    const node = new CrashNode("symlink");
    node.target = "target/".repeat(length).slice(0, length);
    return this.#make(path, node, (fs) => fs.symlink(node.target, `/${path}`));
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

  async #exchange(one: string, other: string): Promise<void> {
    const [first, second] = [this.#file(one), this.#file(other)];
    const swap = (nodes: Map<string, CrashNode>): void => {
      nodes.set(one, second);
      nodes.set(other, first);
    };
    const { fs } = this.#volume;
    await this.#named([first, second], swap, () =>
      fs.rename(`/${one}`, `/${other}`, { flags: RENAME_EXCHANGE }),
    );
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

  async #setXattr(path: string, value: Uint8Array | undefined): Promise<void> {
    const node = this.#file(path);
    const set = (): void => {
      const { xattrs } = node.copyAttributes();
      if (value === undefined) xattrs.delete("user.k");
      else xattrs.set("user.k", Buffer.from(value).toString("latin1"));
    };
    const { fs } = this.#volume;
    await this.#named([node], set, () =>
      value === undefined
        ? fs.removeXattr(`/${path}`, "user.k")
        : fs.setXattr(`/${path}`, "user.k", value),
    );
  }

  /** The mode follows the list. */
  async #setAcl(path: string, perm: number): Promise<void> {
    const node = this.#file(path);
    const value = aclBytes(perm);
    const set = (): void => {
      const attributes = node.copyAttributes();
      attributes.mode = (attributes.mode & 0o7000) | 0o600 | (perm << 3);
      attributes.xattrs.set(ACL, Buffer.from(value).toString("latin1"));
    };
    const { fs } = this.#volume;
    await this.#named([node], set, () => fs.setXattr(`/${path}`, ACL, value));
  }

  /** Of a file that has no access control list. */
  async #chmod(path: string, mode: number): Promise<void> {
    const node = this.#file(path);
    const set = (): void => {
      node.copyAttributes().mode = mode;
    };
    const { fs } = this.#volume;
    await this.#named([node], set, () => fs.chmod(`/${path}`, mode));
  }

  /** A file without a name, which gets one; with `isSynced` it is durable before that. */
  async #temporary(path: string, count: number, isSynced: boolean): Promise<void> {
    const { fs } = this.#volume;
    const dir = `/${path.slice(0, path.lastIndexOf("/"))}`;
    const node = new CrashNode("file");
    this.model.changeContent(node, new Uint8Array(0));
    node.born = NAMELESS;
    const handle = await fs.open(dir, O_TMPFILE | O_RDWR);
    try {
      const bytes = this.#fresh(count);
      this.model.changeContent(node, bytes);
      await handle.write(bytes, 0, count, 0);
      if (isSynced) {
        const keep = this.model.promise(0, [node]);
        await handle.sync();
        keep();
      }
      await this.#make(path, node, () => fs.link(handle, `/${path}`));
    } finally {
      await handle.close();
    }
  }

  async #hold(path: string): Promise<void> {
    this.#held.push(await this.#volume.fs.open(`/${path}`, "r+"));
  }

  async #fsync(path: string, isDataOnly: boolean): Promise<void> {
    const node = this.#file(path);
    await this.#content.opened(path, O_RDWR, async (handle) => {
      const keep = this.model.promise(isDataOnly ? node.born : node.tree, [node]);
      await (isDataOnly ? handle.datasync() : handle.sync());
      keep();
    });
  }

  /** Writes the data out, which promises nothing. */
  async #range(path: string): Promise<void> {
    const { mapping } = (await this.#volume.fs.inode(`/${path}`)) as ExtInode;
    if (mapping === undefined) return;
    const errno = await syncFileRange(new CacheFile(mapping), 0, 0, ALL_OF_RANGE);
    if (errno !== 0) throw FsError.of(errno);
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
