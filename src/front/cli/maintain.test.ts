import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { quireManifest } from "../../../test/support/manifest.ts";
import { quire } from "../../../test/support/run-cli.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasE2fs = ["mke2fs", "e2fsck", "debugfs", "dumpe2fs"].every(requireTool);
const hasFallocate = requireTool("fallocate");
const hasXattrs = requireTool("setfattr");
const scratch = scratchDirectory("maintain");
const tree = join(scratch, "tree");
let images = 0;

function freshImage(args: readonly string[] = ["-t", "ext4"], size = "64M"): string {
  const image = join(scratch, `disk-${images++}.img`);
  runTool("mke2fs", ["-q", "-F", "-b", "1024", ...args, "-d", tree, image, size]);
  return image;
}

const check = (image: string): string => runTool("e2fsck", ["-fn", image]);

/** An editor that runs `script` with the file's path as `$1`. */
function editor(script: string): void {
  const path = join(scratch, `editor-${images++}`);
  fs.writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  process.env["EDITOR"] = path;
  delete process.env["VISUAL"];
}

beforeAll(() => {
  fs.mkdirSync(join(tree, "etc"), { recursive: true });
  fs.writeFileSync(join(tree, "etc/conf"), "a=1\n", { mode: 0o640 });
  fs.writeFileSync(join(tree, "big"), Buffer.alloc(20 * 2 ** 20, "quire"));
  fs.symlinkSync("conf", join(tree, "etc/link"));
  if (hasXattrs) runTool("setfattr", ["-n", "user.note", "-v", "kept", join(tree, "etc/conf")]);
});

afterEach(() => {
  delete process.env["EDITOR"];
});

describe.skipIf(!hasE2fs)("check", () => {
  test("a clean image is clean, a damaged one damaged, as text and as JSON", async () => {
    const image = freshImage();
    const clean = await quire(["check", image]);
    expect([clean.exitCode, clean.stderr]).toEqual([0, ""]);
    expect(clean.text).toMatch(/: clean; \d+ inodes and \d+ clusters in use\n$/);
    runTool("debugfs", ["-w", "-R", "sif /etc/conf links_count 7", image]);
    const damaged = await quire(["check", image]);
    expect(damaged.exitCode).toBe(3);
    expect(damaged.text).toMatch(/^damage inode\.links, inode \d+: /m);
    const told = JSON.parse((await quire(["check", image, "--json"])).text) as object;
    expect(told).toMatchObject({ isClean: false, isComplete: true });
  });

  test("what is no file system is damaged; what cannot be read is an error", async () => {
    const zeros = join(scratch, "zeros");
    fs.writeFileSync(zeros, Buffer.alloc(2 ** 20));
    expect((await quire(["check", zeros])).exitCode).toBe(3);
    const missing = await quire(["check", join(scratch, "missing")]);
    expect([missing.exitCode, missing.text]).toEqual([1, ""]);
  });
});

describe.skipIf(!hasE2fs || !hasFallocate)("trim", () => {
  test.each(["ext2", "ext4"])("%s: free blocks become holes, and nothing else", async (type) => {
    const image = freshImage(["-t", type]);
    await quire(["rm", image, "/big"]);
    const before = await quireManifest(image);
    const blocks = fs.statSync(image).blocks;
    const planned = await quire(["trim", image, "--dry-run"]);
    expect(planned.text).toMatch(/^(?:free \d+ bytes at \d+\n)+$/);
    expect(fs.statSync(image).blocks).toBe(blocks);
    const done = await quire(["trim", image]);
    expect([done.exitCode, done.stderr]).toEqual([0, ""]);
    expect(fs.statSync(image).blocks).toBeLessThan(blocks - (18 * 2 ** 20) / 512);
    check(image);
    expect(await quireManifest(image)).toEqual(before);
  });
});

describe.skipIf(!hasE2fs)("tune", () => {
  const uuid = "01234567-89ab-cdef-0123-456789abcdef";

  test.each([
    ["ext2", ["-t", "ext2"]],
    ["ext4", ["-t", "ext4"]],
    ["ext4 with its seed apart", ["-t", "ext4", "-O", "metadata_csum_seed,orphan_file"]],
  ] as const)("%s: label and UUID, in all copies", async (_name, args) => {
    const image = freshImage(args);
    const before = await quireManifest(image);
    const { exitCode, stderr } = await quire(["tune", image, "--label", "data", "--uuid", uuid]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    check(image);
    expect(await quireManifest(image)).toEqual(before);
    for (const options of [[], ["-o", "superblock=8193", "-o", "blocksize=1024"]]) {
      const told = runTool("dumpe2fs", ["-h", ...options, image]);
      expect(told).toMatch(/volume name: +data/);
      expect(told).toContain(uuid);
    }
    runTool("e2fsck", ["-fn", "-b", "8193", "-B", "1024", image], { okCodes: [4] });
    await quire(["mkdir", image, "/more"]);
    check(image);
  });

  test("a UUID by chance, by the time, or none", async () => {
    const image = freshImage();
    const uuidNow = (): string => {
      const told = runTool("dumpe2fs", ["-h", image]);
      return /UUID: +(\S+)/.exec(told)![1]!;
    };
    const seen = new Set([uuidNow()]);
    for (const [word, form] of [
      ["random", /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/],
      ["time", /^[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/],
      ["clear", /^<none>$/],
    ] as const) {
      expect((await quire(["tune", image, "--uuid", word])).exitCode).toBe(0);
      expect(uuidNow()).toMatch(form);
      expect(seen.has(uuidNow())).toBe(false);
      seen.add(uuidNow());
      check(image);
    }
    const wrong = await quire(["tune", image, "--uuid", "now"]);
    expect([wrong.exitCode, wrong.stderr]).toEqual([
      2,
      'quire: --uuid must be a UUID, random, time or clear, not "now"\n',
    ]);
  });

  test("what is changed is counted, and told when it is done", async () => {
    const image = freshImage();
    const json = await quire(["tune", image, "--label", "a", "--uuid", "clear", "--json"]);
    expect(JSON.parse(json.text)).toEqual({ dryRun: false, done: 2, failed: 0 });
    const told = await quire(["tune", image, "--label", "b", "--uuid", uuid, "--verbose"]);
    expect(told.text).toBe(`set the label to "b"\nset the UUID to ${uuid}\n`);
    const long = await quire(["tune", image, "--label", "x".repeat(17), "--json", "--verbose"]);
    expect([long.exitCode, long.text]).toEqual([1, ""]);
  });

  test("what does not fit is refused", async () => {
    const image = freshImage();
    const long = await quire(["tune", image, "--label", "x".repeat(17)]);
    expect(long.stderr).toMatch(/EINVAL: .*the label has 17 bytes, at most 16 fit/);
    const none = await quire(["tune", image]);
    expect([none.exitCode, none.stderr]).toEqual([2, "quire: tune needs --label or --uuid\n"]);
    const old = freshImage(["-t", "ext4", "-O", "^metadata_csum,uninit_bg"]);
    const refused = await quire(["tune", old, "--uuid", uuid]);
    expect(refused.stderr).toContain("the checksums of the group descriptors hold the UUID");
    const before = fs.readFileSync(image);
    const planned = await quire(["tune", image, "--label", "x", "--dry-run"]);
    expect(planned.text).toBe('set the label to "x"\n');
    expect(fs.readFileSync(image).equals(before)).toBe(true);
  });
});

describe.skipIf(!hasE2fs)("resize", () => {
  test("the image file grows with its file system; a dry run says so and changes nothing", async () => {
    const image = freshImage();
    const before = await quireManifest(image);
    const planned = await quire(["resize", image, "128M", "--dry-run"]);
    expect([planned.exitCode, planned.text]).toEqual([
      0,
      "make the image file 128.0 MiB long\ngrow the file system from 64.0 MiB to 128.0 MiB: " +
        "65536 to 131072 blocks, 8 to 16 groups\n",
    ]);
    expect(fs.statSync(image).size).toBe(64 * 2 ** 20);
    const done = await quire(["resize", image, "128M"]);
    expect([done.exitCode, done.stderr]).toEqual([0, ""]);
    expect(done.text).toBe(planned.text.replace(/^make .*\n/, "").replace("grow", "grew"));
    check(image);
    expect(await quireManifest(image)).toEqual(before);
    fs.truncateSync(image, 160 * 2 ** 20);
    const told = JSON.parse((await quire(["resize", image, "--json"])).text) as object;
    expect(told).toMatchObject({ dryRun: false, oldBlockCount: 131072, blockCount: 163840 });
    check(image);
    const again = await quire(["resize", image]);
    expect(again.text).toMatch(/163840 blocks of 1024 bytes already: nothing to do/);
  });

  test("what is refused leaves the image file as long as it was", async () => {
    const image = freshImage(["-t", "ext4", "-O", "^resize_inode"]);
    const before = fs.readFileSync(image);
    const smaller = await quire(["resize", image, "32M"]);
    expect([smaller.exitCode, smaller.stderr]).toMatchObject([1, /can only grow here/]);
    const larger = await quire(["resize", image, "1G"]);
    expect(larger.stderr).toMatch(/0 blocks are reserved for more descriptors/);
    expect(fs.readFileSync(image).equals(before)).toBe(true);
    expect((await quire(["resize", image, "much"])).exitCode).toBe(2);
  });
});

describe.skipIf(!hasE2fs)("edit", () => {
  test("a changed file is replaced, and keeps owner, mode and attributes", async () => {
    const image = freshImage();
    await quire(["chown", image, "12:34", "/etc/conf"]);
    editor('echo "b=2" >> "$1"');
    const { exitCode, stderr } = await quire(["edit", image, "/etc/link"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect((await quire(["cat", image, "/etc/conf"])).text).toBe("a=1\nb=2\n");
    const [stat] = JSON.parse(
      (await quire(["stat", image, "/etc/conf", "--json"])).text,
    ) as object[];
    expect(stat).toMatchObject({ uid: 12, gid: 34, mode: "0640" });
    if (hasXattrs) expect(JSON.stringify(stat)).toContain("user.note");
    expect((await quire(["ls", image, "/etc", "-a"])).text).toBe("conf\nlink\n");
    check(image);
  });

  test("without a change, or where the editor fails, no byte is written", async () => {
    const image = freshImage();
    const before = fs.readFileSync(image);
    editor("true");
    expect((await quire(["edit", image, "/etc/conf"])).text).toBe("/etc/conf is not changed\n");
    editor('echo lost > "$1"; exit 3');
    const failed = await quire(["edit", image, "/etc/conf"]);
    expect(failed.exitCode).toBe(1);
    expect(failed.stderr).toMatch(/edit '\/etc\/conf': .* has failed, and nothing is changed\n$/);
    expect(fs.readFileSync(image).equals(before)).toBe(true);
    editor("true");
    const json = await quire(["edit", image, "/etc/conf", "--json"]);
    expect(JSON.parse(json.text)).toEqual({ dryRun: false, done: 0, failed: 0 });
    const dry = await quire(["edit", image, "/etc/conf", "--json", "--dry-run"]);
    const actions = ["edit /etc/conf, 4 bytes"];
    expect(JSON.parse(dry.text)).toEqual({ dryRun: true, done: 1, failed: 0, actions });
    expect(fs.readFileSync(image).equals(before)).toBe(true);
  });

  test("what others have changed meanwhile stays, and the text is kept", async () => {
    const image = freshImage();
    const remove = `debugfs -w -R 'rm /etc/conf' ${image}`;
    const write = `debugfs -w -R 'write /dev/null /etc/conf' ${image}`;
    editor(`(${remove}; ${write}) >/dev/null 2>&1; echo mine > "$1"`);
    const { exitCode, stderr } = await quire(["edit", image, "/etc/conf"]);
    expect(exitCode).toBe(1);
    const kept = /what was edited is in (\S+)\n$/.exec(stderr)![1]!;
    expect(fs.readFileSync(kept, "utf8")).toBe("mine\n");
    fs.rmSync(join(kept, ".."), { recursive: true });
  });
});
