/**
 * Journals that the kernel and debugfs wrote, replayed into memory: what is read equals what the
 * kernel shows after its own recovery of a copy, and the dirty image stays as it was.
 */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readDevice, StoreBlockDevice } from "../../src/block/block-device.ts";
import { be32 } from "../../src/lib/bytes.ts";
import { realClock } from "../../src/lib/clock.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import {
  kernelManifest,
  type ManifestLine,
  makeDirtyImage,
  manifestOfTree,
  recoverCopy,
  sha256Of,
} from "../support/dirty-image.ts";
import { openImage } from "../support/ext-images.ts";
import { FAST_ROWS, FAST_WORK } from "../support/fast-work.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "mount", "losetup", "findmnt", "python3"]
  .map(requireTool)
  .every(Boolean);
const canMount = hasTools && requireRoot("mounting an image");
const directory = scratchDirectory("journal");

/**
 * Files, directories, links, truncations and removals over several transactions, the last not
 * synced.
 */
const WORK = `
import os, random
r = random.Random(7)
def write(path, count, byte=None):
    with open(path, "wb") as f: f.write(r.randbytes(count) if byte is None else byte * count)
os.mkdir("a"); os.mkdir("a/b")
for i in range(60): write(f"a/f{i}", r.randrange(0, 9000))
write("big", 400000)
os.symlink("a/f1", "short"); os.symlink("x" * 200, "long")
os.mknod("dev", 0o20644, os.makedev(5, 7)); os.mkfifo("fifo")
os.sync()
os.mkdir("gone")
for i in range(150): write(f"gone/{'n' * 40}{i}", 10)
os.sync()
for i in range(150): os.unlink(f"gone/{'n' * 40}{i}")
os.rmdir("gone")
for i in range(0, 60, 3): os.unlink(f"a/f{i}")
os.truncate("big", 123456)
os.sync()
for i in range(40): write(f"a/b/reuse{i}", 5000)
os.rename("a/f1", "a/b/renamed"); os.link("a/f2", "linked")
os.sync()
os.setxattr("linked", "user.colour", b"blue")
os.chmod("a/f4", 0o600); os.chown("a/f5", 1234, 70000)
write("last", 70000)
fd = os.open("last", os.O_RDONLY); os.fsync(fd)
write("never-synced", 10)
`;

/** Blocks that begin with the journal's magic number, journaled as data. */
const ESCAPED_WORK = `
import os
magic = bytes.fromhex("c03b3998")
with open("data", "wb") as f:
    for i in range(30): f.write(magic + i.to_bytes(4, "big") + b"E" * 4088)
with open("commit", "wb") as f: f.write(magic + bytes.fromhex("0000000200000003") + b"C" * 5000)
os.sync()
with open("data", "r+b") as f:
    f.seek(8192); f.write(magic + bytes.fromhex("0000000200000003") + b"X" * 4000)
fd = os.open("data", os.O_RDONLY); os.fsync(fd)
os.unlink("commit")
with open("other", "wb") as f: f.write(magic * 4096)
os.sync()
`;

/** Transactions until the live part of a log of 1024 blocks goes round its end. */
const WRAPPING_WORK = `
import os, re, subprocess
image = subprocess.check_output(["losetup", "-n", "-O", "BACK-FILE", subprocess.check_output(
    ["findmnt", "-n", "-o", "SOURCE", "--target", "."], text=True).strip()], text=True).strip()
def wrapped():
    command = ["debugfs", "-R", "logdump -a", image]
    dump = subprocess.run(command, capture_output=True, text=True).stdout
    at = [int(block) for block in re.findall(r"^Found .* at block (\\d+)", dump, re.M)]
    return any(b < a for a, b in zip(at, at[1:]))
for i in range(400):
    os.mkdir(f"d{i}")
    for k in range(4):
        with open(f"d{i}/f{k}", "wb") as f: f.write(bytes([i & 255]) * 600)
    if i > 10: os.unlink(f"d{i - 10}/f0")
    os.sync()
    if i > 20 and i % 3 == 0 and wrapped(): break
`;

/** Name, options of mke2fs, of mount, work, journal features that the log must have. */
type Row = readonly [string, string, string, string, readonly string[]];
const V3 = ["64bit", "checksum_v3"];
const KERNEL_ROWS: readonly Row[] = [
  ["ext4-4k", "-t ext4 -b 4096", "", WORK, V3],
  ["ext4-1k", "-t ext4 -b 1024", "", WORK, V3],
  ["ext4-32-bit", "-t ext4 -b 4096 -O ^64bit", "", WORK, ["checksum_v3"]],
  ["ext4-classic", "-t ext4 -b 1024 -O ^metadata_csum,^64bit", "", WORK, []],
  ["ext4-no-checksum", "-t ext4 -b 4096 -O ^metadata_csum", "", WORK, ["64bit"]],
  ["ext3-1k", "-t ext3 -b 1024", "", WORK, []],
  ["ext3-4k", "-t ext3 -b 4096", "", WORK, []],
  ["v1", "-t ext4 -b 1024 -O ^metadata_csum,^64bit", "journal_checksum", WORK, ["checksum_v1"]],
  [
    "async",
    "-t ext4 -b 4096",
    "data=writeback,journal_async_commit",
    WORK,
    ["async_commit", ...V3],
  ],
  ["writeback", "-t ext4 -b 4096", "data=writeback", WORK, V3],
  ["journal", "-t ext4 -b 4096", "data=journal", WORK, V3],
  ["journal-ext3", "-t ext3 -b 1024", "data=journal", WORK, []],
  ["inline", "-t ext4 -b 4096 -O inline_data", "", WORK, V3],
  ["bigalloc", "-t ext4 -b 4096 -O bigalloc", "", WORK, V3],
  ["orphan-file", "-t ext4 -b 4096 -O orphan_file", "", WORK, V3],
  ["escaped-v3", "-t ext4 -b 4096", "data=journal", ESCAPED_WORK, V3],
  ["escaped-ext3", "-t ext3 -b 4096", "data=journal", ESCAPED_WORK, []],
  ["wrapping", "-t ext4 -b 1024 -J size=1", "", WRAPPING_WORK, V3],
  ["wrapping-ext3", "-t ext3 -b 1024 -J size=1", "", WRAPPING_WORK, []],
];

/** `lines` without the one time that the kernel's own recovery sets. */
function withoutDirectoryTimes(lines: readonly ManifestLine[]): ManifestLine[] {
  return lines.map((line) =>
    line["type"] === "d" ? { ...line, mtime_ns: undefined, data: undefined } : line,
  );
}

/** Compares line by line, so that a difference prints one file. */
function expectSameTree(found: readonly ManifestLine[], wanted: readonly ManifestLine[]): void {
  expect(found.map((line) => line["path"])).toEqual(wanted.map((line) => line["path"]));
  for (const [index, line] of found.entries()) expect(line).toEqual(wanted[index]);
}

/** True if the log, as debugfs lists it, goes on at its first block. */
function hasWrapped(dump: string): boolean {
  const blocks = [...dump.matchAll(/^Found .* at block (\d+)$/gm)].map(([, block]) =>
    Number(block),
  );
  return blocks.some((block, index) => index > 0 && block < blocks[index - 1]!);
}

function logDump(image: string): string {
  return runTool("debugfs", ["-R", "logdump -a", image]);
}

/**
 * A dirty image of one row. The kernel may write home what lies before the wrap of a log between
 * the end of the work and the copy: then it is made again.
 */
function makeAsNamed(name: string, args: string, mountOptions: string, work: string): string {
  for (let attempt = 1; ; attempt++) {
    const dirty = makeDirtyImage({
      directory,
      name: `${name}-${attempt}`,
      args: args.split(" "),
      sizeText: "64M",
      work,
      ...(mountOptions === "" ? {} : { mountOptions }),
    });
    if (attempt === 8 || !name.startsWith("wrapping") || hasWrapped(logDump(dirty))) return dirty;
  }
}

function journalOf(described: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return described["journal"] as Record<string, unknown>;
}

describe.skipIf(!canMount)(
  "a dirty journal reads as the kernel shows it after its recovery",
  () => {
    test.each(KERNEL_ROWS)("%s", async (name, args, mountOptions, work, features) => {
      const dirty = makeAsNamed(name, args, mountOptions, work);
      const before = sha256Of(dirty);
      const recovered = recoverCopy(directory, dirty);
      await using mounted = await openImage(dirty);
      const found = await manifestOfTree(mounted.fs);
      expectSameTree(found, kernelManifest(directory, recovered));
      const dump = logDump(dirty);
      if (name.startsWith("escaped")) expect(dump).toMatch(/\(flags 0x[139b]\)/);
      if (name.startsWith("wrapping")) expect(hasWrapped(dump)).toBe(true);
      const journal = journalOf(mounted.fs.describe());
      expect(journal["features"]).toEqual(expect.arrayContaining([...features]));
      expect(journal["transactionCount"]).toBeGreaterThan(0);
      expect(mounted.store.writes).toBe(0);
      expect(sha256Of(dirty)).toBe(before);
    });

    test("without its journal the same image reads otherwise", async () => {
      const dirty = makeDirtyImage({
        directory,
        name: "noload",
        args: ["-t", "ext4", "-b", "4096"],
        sizeText: "64M",
        work: WORK,
      });
      await using replayed = await openImage(dirty);
      await using home = await openImage(dirty, { noload: true });
      const names = (lines: readonly ManifestLine[]): unknown[] =>
        lines.map((line) => line["path"]);
      expect(names(await manifestOfTree(replayed.fs))).toContain("last");
      expect(names(await manifestOfTree(home.fs))).not.toContain("last");
    });
  },
);

describe.skipIf(!canMount)("a journal whose inode is damaged", () => {
  test("is found by the superblock's copy of its map", async () => {
    const dirty = makeDirtyImage({
      directory,
      name: "backup",
      args: ["-t", "ext4", "-b", "4096"],
      sizeText: "64M",
      work: WORK,
    });
    await using whole = await openImage(dirty);
    const wanted = await manifestOfTree(whole.fs);
    const copy = `${dirty}.copy`;
    runTool("cp", [dirty, copy]);
    runTool("debugfs", ["-w", "-R", "clri <8>", copy]);
    await using mounted = await openImage(copy);
    expectSameTree(await manifestOfTree(mounted.fs), wanted);
    expect(mounted.fs.warnings.join()).toMatch(/superblock's copy of its map/);
    expect(mounted.store.writes).toBe(0);
  });
});

describe.skipIf(!canMount)("a copy of the superblock, with the old descriptors behind it", () => {
  test.each([
    ["backup-flex", "-t ext4 -b 1024"],
    ["backup-ext3", "-t ext3 -b 1024"],
    ["backup-meta-bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode"],
    ["backup-orphan-file", "-t ext4 -b 1024 -O orphan_file,ea_inode,metadata_csum_seed"],
    ["backup-clusters", "-t ext4 -b 1024 -O bigalloc -C 4096"],
  ])("%s: shows all that Linux wrote since, its journal replayed", async (name, args) => {
    const dirty = makeDirtyImage({
      directory,
      name,
      args: args.split(" "),
      sizeText: "64M",
      work: WORK,
    });
    await using whole = await openImage(dirty);
    const wanted = await manifestOfTree(whole.fs);
    expect(wanted.length).toBeGreaterThan(10);
    const bytes = readFileSync(dirty);
    bytes.fill(0, 1024, 2048);
    const damaged = `${dirty}.damaged`;
    writeFileSync(damaged, bytes);
    await using mounted = await openImage(damaged, { superblock: "backup" });
    expectSameTree(await manifestOfTree(mounted.fs), wanted);
    expect(mounted.fs.warnings.join()).toMatch(/copy of the superblock.*replayed into memory/);
    expect(mounted.store.writes).toBe(0);
  });
});

describe.skipIf(!canMount)("salvage of an image with a dirty journal", () => {
  test("that was cut off shows what is left, its journal replayed", async () => {
    const args = ["-t", "ext4", "-b", "4096"];
    const dirty = makeDirtyImage({ directory, name: "cut", args, sizeText: "64M", work: WORK });
    await using whole = await openImage(dirty);
    const wanted = await manifestOfTree(whole.fs);
    const cut = `${dirty}.short`;
    writeFileSync(cut, readFileSync(dirty).subarray(0, 60 * 2 ** 20));
    await expect(openImage(cut)).rejects.toMatchObject({ code: "EUCLEAN" });
    await using mounted = await openImage(cut, { salvage: true });
    expectSameTree(await manifestOfTree(mounted.fs), wanted);
    expect(mounted.fs.warnings.join()).toMatch(/the device ends after.*replayed into memory/);
  });
});

describe.skipIf(!canMount)("fast commits", () => {
  test.each(FAST_ROWS)(
    "%s read as the kernel shows them after its recovery",
    async (name, args) => {
      const dirty = makeDirtyImage({
        directory,
        name,
        args: args.split(" "),
        sizeText: "64M",
        work: FAST_WORK,
      });
      const before = sha256Of(dirty);
      const recovered = recoverCopy(directory, dirty);
      await using mounted = await openImage(dirty);
      const found = withoutDirectoryTimes(await manifestOfTree(mounted.fs));
      expectSameTree(found, withoutDirectoryTimes(kernelManifest(directory, recovered)));
      expect(journalOf(mounted.fs.describe())["fastCommitCount"]).toBeGreaterThan(3);
      expect(mounted.store.writes).toBe(0);
      expect(sha256Of(dirty)).toBe(before);
    },
  );

  test("J46 data that reuses a directory's blocks after an fsync is what was written", async () => {
    const work = `
import os
os.mkdir("gone")
for i in range(300): open(f"gone/{'n' * 60}{i}", "w").close()
os.sync()
for i in range(300): os.unlink(f"gone/{'n' * 60}{i}")
os.rmdir("gone"); os.sync()
with open("data", "wb") as f: f.write(b"D" * (30 << 20)); f.flush(); os.fsync(f.fileno())
`;
    const args = ["-t", "ext4", "-b", "1024"];
    const dirty = makeDirtyImage({ directory, name: "reuse", args, sizeText: "48M", work });
    await using mounted = await openImage(dirty);
    expect(journalOf(mounted.fs.describe())["revokedBlockCount"]).toBeGreaterThan(0);
    const recovered = recoverCopy(directory, dirty);
    expectSameTree(await manifestOfTree(mounted.fs), kernelManifest(directory, recovered));
  });
});

describe.skipIf(!canMount)("logs that debugfs wrote", () => {
  const HOMES = [50_000, 50_001, 50_003, 50_005, 50_006];

  /** Blocks of a file that lies on this machine. */
  function blocksOf(path: string, blocks: readonly number[], blockBytes: number): Uint8Array[] {
    const fd = openSync(path, "r");
    try {
      return blocks.map((block) => {
        const bytes = new Uint8Array(blockBytes);
        readSync(fd, bytes, 0, blockBytes, block * blockBytes);
        return bytes;
      });
    } finally {
      closeSync(fd);
    }
  }

  test.each([
    ["v2", "-v 2", "checksum_v2"],
    ["v3", "-v 3", "checksum_v3"],
    ["none", "", ""],
  ])(
    "checksums %s: the home blocks are those after the kernel's recovery",
    async (name, options, feature) => {
      const dirty = join(directory, `debugfs-${name}.img`);
      const data = join(directory, "zz");
      const csum = options === "" ? "" : `-c ${options}`;
      runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "1024", "-J", "size=4", dirty, "64M"]);
      runTool("python3", ["-c", `open(${JSON.stringify(data)}, "wb").write(b"Z" * 5120)`]);
      const commands = `jo ${csum}\njw -b ${HOMES.join()} ${data}\njw -r 50005,50006\njc\n`;
      runTool("debugfs", ["-w", "-f", "-", dirty], { input: commands });
      const recovered = recoverCopy(directory, dirty);
      await using mounted = await openImage(dirty);
      const wanted = blocksOf(recovered, HOMES, 1024);
      const found = await Promise.all(
        HOMES.map((block) => readDevice(mounted.fs.core.bdev, block * 1024, 1024)),
      );
      expect(found).toEqual(wanted);
      expect(be32(found[0]!, 0)).toBe(0x5a5a_5a5a);
      expect(be32(found[4]!, 0)).toBe(0);
      if (feature !== "") expect(journalOf(mounted.fs.describe())["features"]).toContain(feature);
    },
  );
});

describe.skipIf(!canMount)("an external journal", () => {
  test("J25 is replayed when it is given, and asked for when it is not", async () => {
    const journalPath = join(directory, "external.journal");
    runTool("mke2fs", ["-q", "-F", "-b", "4096", "-O", "journal_dev", journalPath, "8M"]);
    const loop = runTool("losetup", ["-f", "--show", journalPath]).trim();
    let dirty: string;
    try {
      dirty = makeDirtyImage({
        directory,
        name: "external",
        args: ["-t", "ext4", "-b", "4096", "-J", `device=${loop}`],
        sizeText: "64M",
        mountOptions: `journal_path=${loop}`,
        work: `${WORK}\nopen("../journal-copy", "wb").write(open("${journalPath}", "rb").read())\n`,
      });
    } finally {
      runTool("losetup", ["-d", loop]);
    }
    await expect(openImage(dirty)).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    const copy = join(directory, "journal-copy");
    const recoveredLoop = runTool("losetup", ["-f", "--show", copyOf(copy)]).trim();
    let wanted: ManifestLine[];
    try {
      const options = `loop,journal_path=${recoveredLoop}`;
      const recovered = recoverCopy(directory, dirty, options);
      wanted = kernelManifest(directory, recovered, `${options},ro`);
    } finally {
      runTool("losetup", ["-d", recoveredLoop]);
    }
    const store = await openFileStore(copy);
    const journalDevice = new StoreBlockDevice(store, { clock: realClock });
    await using mounted = await openImage(dirty, { journalDevice });
    expectSameTree(await manifestOfTree(mounted.fs), wanted);
    expect(journalOf(mounted.fs.describe())["transactionCount"]).toBeGreaterThan(0);
    await store.close();
  });

  /** Lets the kernel have a journal of its own to recover. */
  function copyOf(path: string): string {
    runTool("cp", [path, `${path}.recovered`]);
    return `${path}.recovered`;
  }
});
