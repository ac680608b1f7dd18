import { describe, expect, test } from "vitest";
import { FsError } from "../lib/errno.ts";
import { isPromise } from "../lib/maybe.ts";
import { type NewPlace, PathWalker, SYMLINKS_MAX } from "./namei.ts";
import type { FileSystem } from "./vfs.ts";

type Node = { readonly [name: string]: Node } | string | null;

/** A file system of nested objects: null is a file, text a symlink. Counts what it is asked. */
class ObjectFs {
  readonly rootIno = 2;
  lookups = 0;
  isSlow = false;
  /** Inodes that are not in use any more. */
  readonly stale = new Set<number>();
  readonly #nodes: Node[] = [];
  readonly #names = new Map<Node, number>();

  constructor(root: Node) {
    this.#nodes[2] = root;
  }

  inode(ino: number): unknown {
    if (this.stale.has(ino)) throw new FsError("ESTALE");
    const node = this.#nodes[ino];
    const type = node === null ? "file" : typeof node === "string" ? "symlink" : "directory";
    const inode = { ino, type, size: 0 };
    return this.isSlow ? Promise.resolve(inode) : inode;
  }

  find(dir: { ino: number }, name: Uint8Array): unknown {
    this.lookups++;
    const children = this.#nodes[dir.ino] as { readonly [name: string]: Node };
    const text = Buffer.from(name).toString();
    let ino = 0;
    if (Object.hasOwn(children, text)) {
      const node = children[text]!;
      const known = typeof node === "object" && node !== null ? this.#names.get(node) : undefined;
      ino = known ?? Math.max(3, this.#nodes.length);
      this.#nodes[ino] = node;
      if (typeof node === "object" && node !== null) this.#names.set(node, ino);
    }
    if (ino === 0) return this.isSlow ? Promise.resolve(undefined) : undefined;
    return this.inode(ino);
  }

  /** Gives the child `name` of the directory `dir` of the root another number. */
  makeNew(dir: string, name: string): void {
    const root = this.#nodes[2] as Record<string, Record<string, Node>>;
    this.#names.delete(root[dir]![name]!);
  }

  readlink(inode: { ino: number }): unknown {
    const target = new TextEncoder().encode(this.#nodes[inode.ino] as string);
    return this.isSlow ? Promise.resolve(target) : target;
  }
}

const TREE: Node = {
  etc: { "os-release": null, conf: { deep: null } },
  link: "etc/os-release",
  dir: "/etc",
  slash: "etc/",
  fileslash: "etc/os-release/",
  up: "../../../etc",
  loop: "loop",
  empty: "",
  gone: "nowhere",
  far: "nowhere/new",
};

function walkerOf(limit?: number): { fs: ObjectFs; walker: PathWalker } {
  const fs = new ObjectFs(TREE);
  return { fs, walker: new PathWalker(fs as unknown as FileSystem, limit) };
}

const bytes = (path: string): Uint8Array => new TextEncoder().encode(path);

/** Names of the end of a walk joined by slashes, or the code of its error. */
function ends(walker: PathWalker, path: string, follow = true): string {
  try {
    const found = walker.walk(bytes(path), follow);
    if (isPromise(found)) throw new Error("it has waited");
    return `/${found.names.map((name) => Buffer.from(name).toString()).join("/")}`;
  } catch (thrown) {
    if (thrown instanceof FsError) return thrown.code;
    throw thrown;
  }
}

describe("walk", () => {
  test.each([
    ["/", "/"],
    ["//", "/"],
    ["..", "/"],
    ["/../../etc/..", "/"],
    ["etc/./os-release", "/etc/os-release"],
    ["/etc//conf/../os-release", "/etc/os-release"],
    ["link", "/etc/os-release"],
    ["dir/conf/deep", "/etc/conf/deep"],
    ["dir/..", "/"],
    ["up/conf", "/etc/conf"],
    ["slash", "/etc"],
    ["fileslash", "ENOTDIR"],
    ["etc/os-release/", "ENOTDIR"],
    ["etc/os-release/..", "ENOTDIR"],
    ["loop", "ELOOP"],
    ["empty", "ENOENT"],
    ["gone", "ENOENT"],
    ["", "ENOENT"],
    ["x".repeat(256), "ENAMETOOLONG"],
    ["x".repeat(255), "ENOENT"],
    ["/".repeat(4095), "/"],
    ["/".repeat(4096), "ENAMETOOLONG"],
  ])("%j leads to %s", (path, end) => {
    expect(ends(walkerOf().walker, path)).toBe(end);
  });

  test("a last symlink is followed if that is wanted, or a slash stands behind it", () => {
    const { walker } = walkerOf();
    expect(ends(walker, "link", false)).toBe("/link");
    expect(ends(walker, "dir", false)).toBe("/dir");
    expect(ends(walker, "dir/", false)).toBe("/etc");
  });

  test(`${SYMLINKS_MAX} symlinks are followed, and no more`, () => {
    const tree: Record<string, Node> = { n0: null };
    for (let n = 1; n <= SYMLINKS_MAX + 1; n++) tree[`n${n}`] = `n${n - 1}`;
    const walker = new PathWalker(new ObjectFs(tree) as unknown as FileSystem);
    expect(ends(walker, `n${SYMLINKS_MAX}`)).toBe("/n0");
    expect(ends(walker, `n${SYMLINKS_MAX + 1}`)).toBe("ELOOP");
  });

  test("the same ends come when everything has to be waited for", async () => {
    for (const path of ["etc/conf/../os-release", "dir/conf/deep", "up", "loop", "gone", "slash"]) {
      const { fs, walker } = walkerOf();
      const wanted = ends(walker, path);
      const slow = walkerOf();
      fs.isSlow = true;
      slow.fs.isSlow = true;
      const got = await Promise.resolve(slow.walker.walk(bytes(path), true)).then(
        ({ names }) => `/${names.map((name) => Buffer.from(name).toString()).join("/")}`,
        (error: FsError) => error.code,
      );
      expect([path, got]).toEqual([path, wanted]);
    }
  });
});

describe("dentries", () => {
  test("a second walk asks the file system for no name, missing or not", () => {
    const { fs, walker } = walkerOf();
    for (const path of ["dir/conf/deep", "etc/none", "etc/none"]) ends(walker, path);
    const { lookups } = fs;
    for (const path of ["dir/conf/deep", "etc/none", "etc/conf"]) ends(walker, path);
    expect(fs.lookups).toBe(lookups);
    expect(walker.dentryCount).toBe(lookups);
  });

  test("there are never more than the limit", () => {
    const { walker } = walkerOf(3);
    for (const path of ["dir/conf/deep", "link", "up", "etc/none", "a", "b", "c", "d"]) {
      ends(walker, path);
      expect(walker.dentryCount).toBeLessThanOrEqual(3);
    }
    expect(ends(walker, "dir/conf/deep")).toBe("/etc/conf/deep");
  });

  test("two walks that wait for one name remember it once", async () => {
    const { fs, walker } = walkerOf();
    fs.isSlow = true;
    await Promise.all([1, 2, 3].map(() => walker.walk(bytes("etc/conf"), true)));
    expect(walker.dentryCount).toBe(2);
  });

  test("names that differ in one byte are two names", () => {
    const { fs, walker } = walkerOf();
    expect(ends(walker, "é")).toBe("ENOENT");
    expect(ends(walker, "Ã©")).toBe("ENOENT");
    expect(fs.lookups).toBe(2);
  });

  test("clear forgets all of them", () => {
    const { fs, walker } = walkerOf();
    ends(walker, "etc/conf");
    walker.clear();
    expect(walker.dentryCount).toBe(0);
    const { lookups } = fs;
    ends(walker, "etc");
    expect(fs.lookups).toBe(lookups + 1);
  });
});

describe("walkOrNew", () => {
  test.each<[path: string, follow: boolean, end: unknown]>([
    ["etc/new", true, "new"],
    ["gone", true, "nowhere"],
    ["gone", false, "symlink"],
    ["far", true, "ENOENT"],
    ["none/new", true, "ENOENT"],
    ["etc/os-release/new", true, "ENOTDIR"],
    ["etc", true, "directory"],
  ])("%j, following %j: %j", (path, follow, end) => {
    const { walker } = walkerOf();
    let got: unknown;
    try {
      const found = walker.walkOrNew(bytes(path), follow);
      if (isPromise(found)) throw new Error("it has waited");
      got = found.inode?.type ?? Buffer.from((found as NewPlace).name).toString();
    } catch (thrown) {
      got = (thrown as FsError).code;
    }
    expect(got).toBe(end);
  });
});

describe("forget", () => {
  test("a name is looked up again, and what was below it is not counted any more", () => {
    const { fs, walker } = walkerOf();
    ends(walker, "etc/conf/deep");
    ends(walker, "etc/os-release");
    expect(walker.dentryCount).toBe(4);
    walker.forget([bytes("etc")], bytes("conf"));
    expect(walker.dentryCount).toBe(2);
    const { lookups } = fs;
    expect(ends(walker, "etc/conf/deep")).toBe("/etc/conf/deep");
    expect(fs.lookups).toBe(lookups + 2);
  });

  test("a name that was missing is found once it is forgotten", () => {
    const { walker } = walkerOf();
    expect(ends(walker, "etc/new")).toBe("ENOENT");
    walker.forget([bytes("etc")], bytes("new"));
    walker.forget([bytes("nowhere")], bytes("new"));
    expect(walker.dentryCount).toBe(1);
  });

  test("what was looked up while a name changed is not kept", async () => {
    const { fs, walker } = walkerOf();
    fs.isSlow = true;
    const walking = walker.walk(bytes("etc"), true);
    walker.forget([], bytes("etc"));
    await Promise.resolve();
    walker.forget([], bytes("etc"));
    await walking;
    expect(walker.dentryCount).toBe(0);
  });

  test("a remembered name whose inode has gone is looked up once more", () => {
    const { fs, walker } = walkerOf();
    const first = walker.walk(bytes("etc/conf"), true) as { inode: { ino: number } };
    fs.stale.add(first.inode.ino);
    fs.makeNew("etc", "conf");
    expect(ends(walker, "etc/conf/deep")).toBe("/etc/conf/deep");
    expect(walker.dentryCount).toBe(3);
  });

  test("a name that leads to an inode not in use, now as before, is an error", () => {
    const { fs, walker } = walkerOf();
    const { inode } = walker.walk(bytes("etc/conf"), true) as { inode: { ino: number } };
    fs.stale.add(inode.ino);
    expect(ends(walker, "etc/conf/deep")).toBe("ESTALE");
  });
});
