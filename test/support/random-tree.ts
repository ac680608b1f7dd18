/**
 * Random changes of a tree, done to a file system and to a real directory, with the same results
 * and errors, and noted in a model that the file system must agree with at any time.
 *
 *     const run = new RandomTree({ seed: 7, hostRoot: scratchFolder });
 *     run.subject = quireSide(volume, time);              // or `nodeSide(mountPoint)`
 *     await run.steps(300);
 *     await run.verify();                                 // every name, byte and attribute
 */
import { createHash } from "node:crypto";
import * as nodeFs from "node:fs/promises";
import { expect } from "vitest";
import type { Volume } from "../../src/front/volume.ts";
import { Random } from "../../src/lib/random.ts";
import { ModelNode, ModelTree } from "./model-tree.ts";
import { OPERATIONS } from "./random-tree-operations.ts";
import type { FsApi } from "./twin-trees.ts";
import type { VirtualTime } from "./virtual-time.ts";

const LOG_MAX = 30;
const LOST_FOUND = "lost+found";

/** A tree that can be changed. */
export interface Side {
  readonly fs: FsApi;
  /** What `fs` calls the path. */
  at(path: string): string;
  /** Waits for a call. */
  settle<T>(work: Promise<T>): Promise<T>;
  /** Set where there are more calls than Node has. */
  readonly volume?: Volume;
}

/** A directory of this machine. */
export function nodeSide(root: string): Side {
  return { fs: nodeFs, at: (path) => `${root}/${path}`, settle: (work) => work };
}

/** A volume, which takes its time from `time`. */
export function quireSide(volume: Volume, time: VirtualTime): Side {
  return {
    fs: volume.fs as unknown as FsApi,
    at: (path) => `/${path}`,
    settle: (work) => time.settle(work),
    volume,
  };
}

/** A file that both sides have open. */
export interface OpenPair {
  readonly subject: nodeFs.FileHandle;
  readonly host: nodeFs.FileHandle;
  readonly node: ModelNode;
}

/** What a call came to, as far as two file systems must agree. */
export type Result = { readonly value: unknown } | { readonly code: string };

/** See the head of the file. */
export class RandomTree {
  readonly random: Random;
  readonly tree: ModelTree = new ModelTree();
  readonly host: Side;
  readonly hostRoot: string;
  readonly log: string[] = [];
  readonly open: OpenPair[] = [];
  subject!: Side;
  stepCount = 0;

  constructor(options: { readonly seed: number; readonly hostRoot: string }) {
    this.random = new Random(options.seed);
    this.hostRoot = options.hostRoot;
    this.host = nodeSide(options.hostRoot);
  }

  async steps(count: number): Promise<void> {
    for (let step = 0; step < count; step++) await this.step();
  }

  async step(): Promise<void> {
    const [name, operation] = this.random.pick(OPERATIONS);
    const entry = { name, said: "" };
    try {
      await operation(this, (said) => {
        entry.said = said;
      });
    } catch (thrown) {
      const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
      throw new Error(`call ${this.stepCount} ${name} ${entry.said}: ${text}`);
    }
    this.stepCount++;
    this.log.push(`${name} ${entry.said}`);
    if (this.log.length > LOG_MAX) this.log.shift();
  }

  /** Does `call` on both sides and expects the same of both; true if it was done. */
  async both(call: (side: Side) => Promise<unknown>): Promise<boolean> {
    const wanted = await resultOf(() => call(this.host));
    const got = await resultOf(() => this.subject.settle(call(this.subject)));
    expect(got).toEqual(wanted);
    return "value" in wanted;
  }

  /** As `both`, with a file that both have open. */
  async bothOpen(
    { subject, host }: OpenPair,
    call: (handle: nodeFs.FileHandle) => Promise<unknown>,
  ): Promise<boolean> {
    const wanted = await resultOf(() => call(host));
    const got = await resultOf(() => this.subject.settle(call(subject)));
    expect(got).toEqual(wanted);
    return "value" in wanted;
  }

  async closeAll(): Promise<void> {
    for (const pair of this.open.splice(0)) await this.bothOpen(pair, (handle) => handle.close());
  }

  /** Takes over what the real directory has as attributes of `node`, which is at `path`. */
  async takeAttributes(path: string, node: ModelNode): Promise<void> {
    const look = node.type === "link" ? nodeFs.lstat : nodeFs.stat;
    const { mode, uid, gid } = await look(this.host.at(path));
    node.mode = mode;
    node.uid = uid;
    node.gid = gid;
  }

  /** Makes a node of the model at `path`, where the sides have made one. */
  async noteNew(path: string, type: ModelNode["type"]): Promise<ModelNode> {
    const walked = this.tree.walk(path, true)!;
    const node = new ModelNode(type);
    walked.dir.names.set(walked.name, node);
    walked.dir.mtimeSec = undefined;
    await this.takeAttributes(path, node);
    return node;
  }

  /** Looks at all that the subject has. */
  async verify(): Promise<void> {
    await this.#verifyDir(this.tree.root, "");
  }

  async #verifyDir(dir: ModelNode, prefix: string): Promise<void> {
    const { fs, settle, at } = this.subject;
    const names = (await settle(fs.readdir(at(prefix)))) as string[];
    const seen = names.filter((name) => prefix !== "" || name !== LOST_FOUND).sort();
    expect(seen, `names in /${prefix}`).toEqual([...dir.names.keys()].sort());
    for (const [name, node] of dir.names) {
      const path = prefix + name;
      await this.#verifyNode(path, node);
      if (node.type === "dir") await this.#verifyDir(node, `${path}/`);
    }
  }

  async #verifyNode(path: string, node: ModelNode): Promise<void> {
    const { fs, settle, at, volume } = this.subject;
    const stats = await settle(fs.lstat(at(path)));
    const { mode, uid, gid, nlink } = stats;
    const wanted = { mode: node.mode, uid: node.uid, gid: node.gid, nlink: node.shownLinks };
    expect({ mode, uid, gid, nlink }, path).toEqual(wanted);
    if (node.mtimeSec !== undefined) expect(stats.mtimeMs / 1000, path).toBe(node.mtimeSec);
    if (node.type === "link") expect(await settle(fs.readlink(at(path)))).toBe(node.target);
    if (node.type === "file") {
      const content = (await settle(fs.readFile(at(path)))) as Uint8Array;
      expect(content.length, path).toBe(node.bytes.length);
      expect(Buffer.compare(content, node.bytes), `content of ${path}`).toBe(0);
    }
    if (volume === undefined) return;
    const xattrs = await settle(volume.fs.xattrs(at(path), { followLinks: false }));
    const hex = (map: ReadonlyMap<string, Uint8Array>): unknown =>
      [...map].map(([name, value]) => [name, Buffer.from(value).toString("hex")]).sort();
    expect(hex(xattrs), path).toEqual(hex(node.xattrs));
  }
}

async function resultOf(call: () => Promise<unknown>): Promise<Result> {
  try {
    return { value: plainOf(await call()) };
  } catch (thrown) {
    const { code, syscall } = thrown as NodeJS.ErrnoException;
    if (code === undefined) throw thrown;
    return { code: `${code} ${syscall}` };
  }
}

function plainOf(value: unknown): unknown {
  if (value instanceof Uint8Array) {
    return { length: value.length, digest: createHash("sha256").update(value).digest("hex") };
  }
  return value;
}
