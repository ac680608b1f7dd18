/**
 * What others than root may do, on a volume and on a real directory under the same user: the same
 * values and the same errors.
 */
import * as nodeFs from "node:fs";
import * as nodePromises from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import { VolumeFs } from "../../src/front/promises.ts";
import type { Volume } from "../../src/front/volume.ts";
import { realClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { type FsApi, outcomeOf } from "../support/twin-trees.ts";

const hasTools = requireTool("mke2fs") && requireTool("setfacl") && requireTool("setfattr");
const canRun = requireRoot("other users") && hasTools;
const scratch = scratchDirectory("permissions");
const USER = { uid: 12_345, gid: 23_456, groups: [34_567] };

let volume: Volume;
/** The same volume in the name of root. */
let asRoot: VolumeFs;
let root: string;

/** Files of every mode that matters, owned by the user, by its groups, or by nobody it knows. */
function makeTree(): void {
  const owners = { mine: [USER.uid, 1], group: [1, USER.gid], more: [1, 34_567], other: [1, 1] };
  for (const [name, [uid, gid]] of Object.entries(owners)) {
    for (const mode of [0o000, 0o400, 0o200, 0o040, 0o020, 0o004, 0o002, 0o007, 0o777, 0o711]) {
      const path = join(root, `${name}-${mode.toString(8)}`);
      nodeFs.writeFileSync(path, "x");
      nodeFs.chownSync(path, uid!, gid!);
      nodeFs.chmodSync(path, mode);
      const folder = `${path}.d`;
      nodeFs.mkdirSync(folder);
      nodeFs.writeFileSync(join(folder, "in"), "x");
      nodeFs.mkdirSync(join(folder, "sub"));
      nodeFs.chownSync(folder, uid!, gid!);
      nodeFs.chmodSync(folder, mode);
    }
  }
  const sticky = join(root, "sticky");
  nodeFs.mkdirSync(sticky);
  nodeFs.chmodSync(sticky, 0o1777);
  for (const [name, uid] of [
    ["ours", USER.uid],
    ["theirs", 1],
  ] as const) {
    nodeFs.writeFileSync(join(sticky, name), "x", { mode: 0o666 });
    nodeFs.chownSync(join(sticky, name), uid, 1);
  }
  const lists = [`u:${USER.uid}:rw`, `u:${USER.uid}:---`, `g:${USER.gid}:r`, "g:34567:w,m::r"];
  for (const [at, list] of lists.entries()) {
    const path = join(root, `acl-${at}`);
    nodeFs.writeFileSync(path, "x", { mode: 0o644 });
    runTool("setfacl", ["-m", list, path]);
  }
}

beforeAll(async () => {
  if (!canRun) return;
  root = join(scratch, "tree");
  nodeFs.mkdirSync(root);
  makeTree();
  nodeFs.chmodSync(scratch, 0o755);
  nodeFs.chmodSync(root, 0o755);
  const image = join(scratch, "tree.img");
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", root, image, "64M"]);
  volume = await openImage(image, { writable: true, ...USER, umask: 0o022 });
  const caller = { uid: 0, gid: 0, groups: [], umask: 0 };
  const random = new Random(1);
  asRoot = new VolumeFs(volume.fileSystem, { caller, clock: realClock, random });
});
afterAll(() => volume?.close());

/** Does `call` as the user, in the tree. */
async function asUser<T>(call: () => Promise<T>): Promise<T> {
  const before = process.cwd();
  const groups = process.getgroups!();
  process.chdir(root);
  process.setgroups!([...USER.groups]);
  process.setegid!(USER.gid);
  process.seteuid!(USER.uid);
  try {
    return await call();
  } finally {
    process.seteuid!(0);
    process.setegid!(0);
    process.setgroups!(groups);
    process.chdir(before);
  }
}

async function compare(call: (fs: FsApi) => unknown): Promise<void> {
  const wanted = await asUser(() => outcomeOf(() => call(nodePromises)));
  const got = await outcomeOf(() => call(volume.fs as unknown as FsApi));
  expect(got).toEqual(wanted);
}

type Call = readonly [title: string, call: (fs: FsApi, path: string) => unknown];

/** Without `access`, which asks for the real user and not for the effective one. */
const CALLS: readonly Call[] = [
  ["read", (fs, path) => fs.readFile(path, "utf8")],
  ["write", (fs, path) => fs.writeFile(path, "y")],
  ["append", (fs, path) => fs.appendFile(path, "y")],
  ["truncate", (fs, path) => fs.truncate(path, 0)],
  [
    "chmod",
    async (fs, path) => {
      const { mode } = await fs.stat(path);
      return fs.chmod(path, mode & 0o7777);
    },
  ],
  ["chown", (fs, path) => fs.chown(path, 1, 1)],
  [
    "chown to a group of mine",
    async (fs, path) => {
      const { gid } = await fs.stat(path);
      await fs.chown(path, -1, 34_567);
      await fs.chown(path, -1, gid);
    },
  ],
  ["utimes", (fs, path) => fs.utimes(path, 5, 6)],
  ["stat inside", (fs, path) => fs.stat(`${path}.d/in`).then(({ size }) => size)],
  [
    "list",
    async (fs, path) => {
      const names = await fs.readdir(`${path}.d`);
      const entries = await fs.readdir(`${path}.d`, { withFileTypes: true });
      return [names.sort(), entries.length];
    },
  ],
  ["open a directory", async (fs, path) => (await fs.open(`${path}.d`)).close()],
  ["opendir", async (fs, path) => (await fs.opendir(`${path}.d`)).close()],
  ["chown to nobody new", (fs, path) => fs.chown(path, -1, -1)],
  ["open without noting it", async (fs, path) => (await fs.open(path, 0o1000000)).close()],
  [
    "make inside",
    async (fs, path) => {
      await fs.writeFile(`${path}.d/new`, "n");
      await fs.mkdir(`${path}.d/newdir`);
      await fs.rename(`${path}.d/new`, `${path}.d/newer`);
      await fs.unlink(`${path}.d/newer`);
      await fs.rmdir(`${path}.d/newdir`);
    },
  ],
  [
    "unlink inside",
    async (fs, path) => {
      await fs.link(`${path}.d/in`, `${path}.d/again`);
      await fs.unlink(`${path}.d/again`);
    },
  ],
  [
    "rmdir inside",
    async (fs, path) => {
      await fs.rmdir(`${path}.d/sub`);
      await fs.mkdir(`${path}.d/sub`);
    },
  ],
  [
    "symlink inside",
    async (fs, path) => {
      await fs.symlink("x", `${path}.d/link`);
      await fs.unlink(`${path}.d/link`);
    },
  ],
];

describe.skipIf(!canRun)("another user than root", () => {
  test.each(CALLS)("%s", async (_title, call) => {
    const names = nodeFs.readdirSync(root).filter((name) => !name.endsWith(".d"));
    for (const name of names) {
      if (name === "lost+found" || name === "sticky") continue;
      await compare((fs) => outcomeOf(() => call(fs, name)));
    }
  });

  test("a file that somebody else may write loses its setuid bit by that", async () => {
    for (const task of [
      (fs: FsApi) => fs.appendFile("other-777", "y"),
      (fs: FsApi) => fs.truncate("other-777", 1),
    ]) {
      nodeFs.chmodSync(join(root, "other-777"), 0o6777);
      await asRoot.chmod("/other-777", 0o6777);
      await compare(async (fs) => [await task(fs), (await fs.stat("other-777")).mode]);
    }
  });

  test("a tree whose name has to stay is left as it is", async () => {
    nodeFs.mkdirSync(join(root, "locked/in/deep"), { recursive: true });
    nodeFs.chmodSync(join(root, "locked/in"), 0o777);
    await asRoot.mkdir("/locked/in/deep", { recursive: true });
    await asRoot.chmod("/locked", 0o755);
    await asRoot.chmod("/locked/in", 0o777);
    await compare((fs) => fs.rm("locked/in", { recursive: true }));
    await compare((fs) => fs.readdir("locked/in"));
  });

  test("a group that one is not of loses its bit on files that are locked by it", async () => {
    for (const name of ["other-777", "group-777"]) {
      nodeFs.chmodSync(join(root, name), 0o2766);
      await asRoot.chmod(`/${name}`, 0o2766);
      await compare(async (fs) => [await fs.appendFile(name, "y"), (await fs.stat(name)).mode]);
    }
  });

  test("nobody makes a file that is run as a group that he is not of", async () => {
    for (const name of ["other-777.d", "group-777.d"]) {
      nodeFs.chmodSync(join(root, name), 0o2777);
      await asRoot.chmod(`/${name}`, 0o2777);
      await compare(async (fs) => {
        await (await fs.open(`${name}/run`, "wx", 0o2755)).close();
        return (await fs.stat(`${name}/run`)).mode;
      });
    }
  });

  test("devices are root's to make, and directories are made otherwise", async () => {
    const { fs } = volume;
    const made = (mode: number) => outcomeOf(() => fs.mknod(`mine-777.d/node-${mode}`, mode));
    for (const mode of [0o020666, 0o060666, 0o040755]) {
      expect(await made(mode)).toMatchObject({ error: { code: "EPERM" } });
    }
    for (const mode of [0o120777, 0o170000]) {
      expect(await made(mode)).toMatchObject({ error: { code: "EINVAL" } });
    }
    for (const mode of [0o644, 0o010600, 0o140600]) expect(await made(mode)).toEqual({});
  });

  test("a copy over what is another's fails with its first error", async () => {
    await compare((fs) => fs.copyFile("other-4", "other-777"));
    await compare((fs) => fs.copyFile("other-4", "sticky/theirs"));
    await compare((fs) => fs.readdir("sticky").then((names) => names.length));
  });

  test("a sticky directory keeps what is others'", async () => {
    await compare((fs) => fs.unlink("sticky/theirs"));
    await compare((fs) => fs.rename("sticky/theirs", "sticky/x"));
    await compare((fs) => fs.rename("sticky/ours", "sticky/theirs"));
    await compare((fs) => fs.rename("sticky/ours", "sticky/mine"));
    await compare((fs) => fs.unlink("sticky/mine"));
  });

  test("new files are the user's, with the umask taken off", async () => {
    await compare(async (fs) => {
      const before = process.umask(0o022);
      try {
        await fs.writeFile("mine-777.d/made", "x", { mode: 0o777 });
        await fs.mkdir("mine-777.d/made.d", 0o777);
        const facts = async (path: string): Promise<number[]> => {
          const { uid, gid, mode } = await fs.stat(path);
          return [uid, gid, mode];
        };
        return [await facts("mine-777.d/made"), await facts("mine-777.d/made.d")];
      } finally {
        process.umask(before);
      }
    });
  });
});
