/**
 * File data in logs that we wrote (`data=journal`, `chattr +j`), recovered by the kernel, by e2fsck
 * and by ourselves: images are left as after a power cut, with what was synced in the log alone.
 * And the reverse: logs with data that the kernel wrote, and the marks of files.
 */
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import type { DataMode } from "../../src/fs/ext/data-mode.ts";
import { JOURNAL_DATA_FL } from "../../src/fs/ext/layout.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { makeDirtyImage, recoverCopy } from "../support/dirty-image.ts";
import { runDebugfs, withKernelMount } from "../support/kernel-image.ts";
import { seeds } from "../support/runs.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const TOOLS = ["mke2fs", "debugfs", "e2fsck", "mount", "losetup", "python3", "lsattr"];
const hasTools = TOOLS.map(requireTool).every(Boolean);
const canMount = hasTools && requireRoot("mounting an image");
const directory = scratchDirectory("journal-data");
const FILES = 12;
const ROUNDS = 5;
const CHANGES = 12;

const forms: readonly (readonly [string, readonly string[]])[] = [
  ["ext4", ["-t", "ext4", "-b", "4096"]],
  ["ext4 with 1 KiB blocks", ["-t", "ext4", "-b", "1024"]],
  ["ext3", ["-t", "ext3", "-b", "4096"]],
  ["ext3 with 1 KiB blocks", ["-t", "ext3", "-b", "1024"]],
  ["ext4 without checksums", ["-t", "ext4", "-b", "2048", "-O", "^metadata_csum,^64bit"]],
];
/** How the data comes into the log: all of it, or that of files that are marked now and then. */
const ways: readonly DataMode[] = ["journal", "ordered"];
const cases = forms.flatMap((form) => ways.map((data) => [...form, data] as const));

function nameOf(form: string, data: string): string {
  return `${form.replaceAll(" ", "-")}-${data}`;
}

/** Bytes of which many a block begins as a block of a log does. */
function magicBytes(random: Random, count: number): Uint8Array {
  const bytes = random.bytes(count);
  for (let at = 0; at + 4 <= count; at += KIB) {
    if (random.chance(0.3)) bytes.set([0xc0, 0x3b, 0x39, 0x98], at);
  }
  return bytes;
}

/** Marks the file `path`, or takes its mark away. */
async function switchMark({ fileSystem, fs }: Volume, path: string): Promise<void> {
  const inode = await fileSystem.inode((await fs.stat(path)).ino);
  const flags = (inode.attributes().flags ^ JOURNAL_DATA_FL) >>> 0;
  await fileSystem.writer!.setAttributes(inode, { flags });
}

/** A volume whose files are changed at random, and what they must hold. */
class Work {
  readonly contents: Map<string, Uint8Array> = new Map();
  readonly #volume: Volume;
  readonly #random: Random;
  readonly #marks: boolean;

  /** With `marks` files are marked now and then. */
  constructor(volume: Volume, random: Random, marks: boolean) {
    this.#volume = volume;
    this.#random = random;
    this.#marks = marks;
  }

  /** Changes of files, some of them synced, and a sync of all. */
  async rounds(count: number): Promise<void> {
    for (let round = 0; round < count; round++) {
      for (let change = 0; change < CHANGES; change++) await this.#change();
      await this.#volume.sync();
    }
  }

  async #change(): Promise<void> {
    const random = this.#random;
    const { fs } = this.#volume;
    const name = `f${random.below(FILES)}`;
    const old = this.contents.get(name);
    if (old === undefined) return this.#create(name);
    const kind = random.below(6);
    if (kind === 0) {
      await fs.unlink(`/${name}`);
      this.contents.delete(name);
    } else if (kind === 1) {
      await this.#setSize(name, old, random.below(old.length + 9000));
    } else if (kind === 2 && this.#marks) {
      await switchMark(this.#volume, `/${name}`);
    } else {
      await this.#write(name, old, random.below(old.length + 1));
    }
    if (random.chance(0.2) && this.contents.has(name)) await this.#sync(name);
  }

  async #create(name: string): Promise<void> {
    const bytes = magicBytes(this.#random, this.#random.below(300_000));
    await this.#volume.fs.writeFile(`/${name}`, bytes);
    this.contents.set(name, bytes);
    if (this.#marks && this.#random.chance(0.5)) await switchMark(this.#volume, `/${name}`);
  }

  async #write(name: string, old: Uint8Array, at: number): Promise<void> {
    const bytes = magicBytes(this.#random, 1 + this.#random.below(60_000));
    const handle = await this.#volume.fs.open(`/${name}`, "r+");
    await handle.write(bytes, 0, bytes.length, at);
    await handle.close();
    const content = new Uint8Array(Math.max(old.length, at + bytes.length));
    content.set(old);
    content.set(bytes, at);
    this.contents.set(name, content);
  }

  async #setSize(name: string, old: Uint8Array, sizeBytes: number): Promise<void> {
    await this.#volume.fs.truncate(`/${name}`, sizeBytes);
    const content = new Uint8Array(sizeBytes);
    content.set(old.subarray(0, sizeBytes));
    this.contents.set(name, content);
  }

  async #sync(name: string): Promise<void> {
    const handle = await this.#volume.fs.open(`/${name}`, "r+");
    await (this.#random.chance(0.5) ? handle.sync() : handle.datasync());
    await handle.close();
  }
}

/** An image as after a power cut, and what was synced in it; in `/later` there is more. */
async function cutImage(
  name: string,
  args: readonly string[],
  data: DataMode,
  seed: number,
): Promise<{ readonly path: string; readonly contents: ReadonlyMap<string, Uint8Array> }> {
  const path = join(directory, `${name}.img`);
  runTool("mke2fs", ["-q", "-F", ...args, path, "16M"]);
  const bytes = new Uint8Array(readFileSync(path));
  const random = new Random(seed);
  const volume = await openImage(bytes, { writable: true, data, random: random.fork() });
  const work = new Work(volume, random, data !== "journal");
  await work.rounds(ROUNDS);
  await volume.fs.mkdir("/later");
  for (let at = 0; at < 8; at++) {
    await volume.fs.writeFile(`/later/${at}`, magicBytes(random, random.below(100_000)));
  }
  await volume.fs.open("/later/1", "r+").then(async (handle) => {
    await handle.sync();
    await handle.close();
  });
  writeFileSync(path, bytes);
  await volume.close();
  return { path, contents: work.contents };
}

/** Throws unless the files in the directory `root` are those of `contents`. */
function expectTree(root: string, contents: ReadonlyMap<string, Uint8Array>): void {
  const names = readdirSync(root).filter((name) => /^f\d+$/.test(name));
  expect(names.sort()).toEqual([...contents.keys()].sort());
  for (const [name, wanted] of contents) {
    expect(Buffer.compare(readFileSync(join(root, name)), wanted), name).toBe(0);
  }
}

async function expectVolume(
  volume: Volume,
  contents: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const names = (await volume.fs.readdir("/")).filter((name) => /^f\d+$/.test(name));
  expect(names.sort()).toEqual([...contents.keys()].sort());
  for (const [name, wanted] of contents) {
    expect(Buffer.compare(await volume.fs.readFile(`/${name}`), wanted), name).toBe(0);
  }
}

describe.runIf(hasTools)("file data in logs that we wrote", () => {
  test.runIf(canMount).each(cases)(
    "J89 J108 the kernel recovers it: %s, options %j, data=%s",
    async (form, args, data) => {
      for (const seed of seeds(2, 1)) {
        const { path, contents } = await cutImage(nameOf(form, data), args, data, seed);
        const recovered = `${path}.kernel`;
        copyFileSync(path, recovered);
        withKernelMount(recovered, (root) => expectTree(root, contents));
        runTool("e2fsck", ["-fn", recovered]);
      }
    },
  );

  test.each(cases)(
    "J89 J108 e2fsck recovers it, and so do we, and go on: %s, options %j, data=%s",
    async (form, args, data) => {
      for (const seed of seeds(2, 1)) {
        const { path, contents } = await cutImage(`own-${nameOf(form, data)}`, args, data, seed);
        const checked = `${path}.checked`;
        copyFileSync(path, checked);
        runTool("e2fsck", ["-p", checked]);
        runTool("e2fsck", ["-fn", checked]);
        for (const image of [checked, path]) {
          const bytes = new Uint8Array(readFileSync(image));
          const volume = await openImage(bytes, { writable: true, data: "journal" });
          await expectVolume(volume, contents);
          const work = new Work(volume, new Random(seed), false);
          for (const [name, content] of contents) work.contents.set(name, content);
          await work.rounds(2);
          await volume.close();
          writeFileSync(image, bytes);
          runTool("e2fsck", ["-fn", image]);
          const again = await openImage(bytes);
          await expectVolume(again, work.contents);
          await again.close();
        }
      }
    },
  );

  test.each(forms.slice(0, 4))("J89 the log has escaped copies of data: %s", async (form, args) => {
    const path = join(directory, `escaped-${nameOf(form, "x")}.img`);
    runTool("mke2fs", ["-q", "-F", ...args, path, "16M"]);
    const bytes = new Uint8Array(readFileSync(path));
    const volume = await openImage(bytes, { writable: true, data: "journal" });
    const block = Number(args[3]);
    const content = new Uint8Array(2 * block).fill(7);
    content.set([0xc0, 0x3b, 0x39, 0x98], block); // The second block is as the log's own.
    await volume.fs.writeFile("/file", content, { flush: true });
    writeFileSync(path, bytes);
    const log = runTool("debugfs", ["-R", "logdump -a", path]);
    const flags = [...log.matchAll(/FS block (\d+) logged at .*\(flags (0x[0-9a-f]+)\)/g)];
    expect(flags.filter(([, , text]) => (Number(text) & 1) === 1)).toHaveLength(1);
    await volume.close();
  });
});

describe.runIf(canMount)("blocks of data that were freed", () => {
  test.each(forms)("J89 are revoked before others have them: %s", async (form, args) => {
    const path = join(directory, `revoked-${nameOf(form, "x")}.img`);
    runTool("mke2fs", ["-q", "-F", "-m", "0", ...args, path, "12M"]);
    const bytes = new Uint8Array(readFileSync(path));
    const volume = await openImage(bytes, { writable: true });
    const { fs } = volume;
    const random = new Random(3);
    await fs.writeFile("/marked", "");
    await switchMark(volume, "/marked");
    await fs.writeFile("/marked", random.bytes(300 * KIB), { flush: true });
    await fs.unlink("/marked");
    await volume.sync();
    // All that is free, and with it what was the other's, past the log.
    const content = random.bytes(12 * MIB);
    await expect(fs.writeFile("/f0", content)).rejects.toMatchObject({ code: "ENOSPC" });
    const handle = await fs.open("/f0", "r+");
    const wanted = content.subarray(0, (await handle.stat()).size);
    await handle.sync();
    await handle.close();
    writeFileSync(path, bytes); // As after a power cut.
    await volume.close();
    withKernelMount(path, (root) => expectTree(root, new Map([["f0", wanted]])));
    runTool("e2fsck", ["-fn", path]);
  });
});

/** Data in the log of the kernel: blocks that are freed and used again, and begin as the log's. */
const WORK = `
import os
magic = bytes([0xc0, 0x3b, 0x39, 0x98])
def write(path, count, seed):
    with open(path, "wb") as f:
        f.write((magic + bytes([seed]) * 1020) * count)
        f.flush(); os.fsync(f.fileno())
for i in range(10): write(f"f{i}", 40, i)
for i in range(0, 10, 2): os.unlink(f"f{i}")
for i in range(0, 10, 2): write(f"f{i}", 60, 100 + i)
with open("f1", "r+b") as f: f.truncate(5000); os.fsync(f.fileno())
os.sync()
`;

describe.runIf(canMount)("file data in logs that the kernel wrote", () => {
  test.each(forms)("is recovered, and we go on with it: %s", async (form, args) => {
    const dirty = makeDirtyImage({
      directory,
      name: nameOf(form, "kernel"),
      args,
      sizeText: "16M",
      mountOptions: "data=journal",
      work: WORK,
    });
    const contents = new Map<string, Uint8Array>();
    withKernelMount(recoverCopy(directory, dirty), (root) => {
      for (const name of readdirSync(root).filter((each) => /^f\d+$/.test(each))) {
        contents.set(name, new Uint8Array(readFileSync(join(root, name))));
      }
    });
    expect(contents.size).toBe(10);
    const bytes = new Uint8Array(readFileSync(dirty));
    const volume = await openImage(bytes, { writable: true, data: "journal" });
    await expectVolume(volume, contents);
    const work = new Work(volume, new Random(1), false);
    for (const [name, content] of contents) work.contents.set(name, content);
    await work.rounds(2);
    writeFileSync(dirty, bytes); // As after a power cut.
    await volume.close();
    withKernelMount(
      dirty,
      (root) => {
        expectTree(root, work.contents);
        writeFileSync(join(root, "f1"), "by the kernel");
      },
      "rw,data=journal",
    );
    runTool("e2fsck", ["-fn", dirty]);
  });

  test("marks are the same to both", async () => {
    const path = join(directory, "marks.img");
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", path, "16M"]);
    const flagsOf = (root: string, name: string): string => {
      return runTool("lsattr", [join(root, name)]).split(" ")[0]!;
    };
    withKernelMount(path, (root) => {
      writeFileSync(join(root, "theirs"), "theirs");
      writeFileSync(join(root, "ours"), "ours");
    });
    // As `chattr +j`, which takes a privilege that root has not everywhere.
    runDebugfs(path, ["set_inode_field theirs flags 0x84000"]);
    withKernelMount(path, (root) => expect(flagsOf(root, "theirs")).toContain("j"));
    const bytes = new Uint8Array(readFileSync(path));
    const volume = await openImage(bytes, { writable: true });
    const inodeOf = async (name: string) =>
      volume.fileSystem.inode((await volume.fs.stat(`/${name}`)).ino);
    const { flags: theirs } = (await inodeOf("theirs")).attributes();
    expect(theirs & JOURNAL_DATA_FL).toBe(JOURNAL_DATA_FL);
    const writer = volume.fileSystem.writer!;
    await writer.setAttributes(await inodeOf("theirs"), { flags: theirs ^ JOURNAL_DATA_FL });
    await writer.setAttributes(await inodeOf("ours"), { flags: theirs });
    await volume.close();
    writeFileSync(path, bytes);
    withKernelMount(path, (root) => {
      expect(flagsOf(root, "theirs")).not.toContain("j");
      expect(flagsOf(root, "ours")).toContain("j");
    });
    runTool("e2fsck", ["-fn", path]);
  });
});
