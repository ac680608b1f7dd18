import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { quire } from "../../../test/support/run-cli.ts";

const PACKED = new URL("../../../test/fixtures/demo.img.gz", import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "quire-cli-"));
const image = join(folder, "disk.img");

beforeAll(() => writeFileSync(image, gunzipSync(readFileSync(PACKED))));
afterAll(() => rmSync(folder, { recursive: true }));

describe("info", () => {
  test("says first what people look for", async () => {
    const { exitCode, text, stderr } = await quire(["info", image]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const [title, blank, ...rest] = text.split("\n");
    expect(title).toBe(`${image} in partition 1: ext4 "demo", 7.0 MiB, clean`);
    expect(blank).toBe("");
    const labels = rest.map((line) => line.slice(0, 12).trim()).filter(Boolean);
    const order = ["Layout", "Features", "Usage", "Journal", "Partitions", "Details"];
    expect(labels.filter((label) => order.includes(label))).toEqual(order);
    expect(text.split("\n").filter((line) => line.length > 100)).toEqual([]);
    expect(text).not.toMatch(/[ \t]$/m);
  });

  test("gives JSON with partitions, file system and usage", async () => {
    const { text } = await quire(["info", image, "--json"]);
    const info = JSON.parse(text) as Record<string, unknown>;
    expect(info).toMatchObject({ partitionScheme: "mbr", partition: 1, warnings: [] });
    expect(info["fileSystem"]).toMatchObject({ type: "ext4", label: "demo" });
    expect(info["usage"]).toMatchObject({ blockBytes: 1024, inodeCount: 1792 });
  });
});

describe("tree", () => {
  test("draws what it was asked for and says what it left out", async () => {
    const { exitCode, text } = await quire(["tree", image, "--depth", "1", "--entries", "2"]);
    expect(exitCode).toBe(0);
    const lines = text.trimEnd().split("\n");
    expect(lines[0]).toBe("/");
    expect(lines.at(-1)).toMatch(/^`-- \(\d+ more\)$/);
    expect(lines.length).toBeLessThan(8);
  });

  test("gives the same as JSON", async () => {
    const { text } = await quire(["tree", image, "--depth", "1", "--json"]);
    const tree = JSON.parse(text) as { children: { name: string }[] };
    const { text: names } = await quire(["ls", image, "-a"]);
    expect(tree.children.map(({ name }) => `${name}\n`).join("")).toBe(names);
  });
});

describe("ls", () => {
  test("-l shows mode, links, owner, size and time", async () => {
    const { text } = await quire(["ls", image, "/etc", "-l"]);
    const line = /^[d\-l][rwxsStT-]{9} +\d+ +\d+ +\d+ +\d+ {2}\d{4}-\d\d-\d\d \d\d:\d\d {2}\S/;
    for (const row of text.trimEnd().split("\n")) expect(row).toMatch(line);
  });

  test("goes on behind a path that is missing, and fails at the end", async () => {
    const { exitCode, text, stderr } = await quire(["ls", image, "/missing", "/etc"]);
    expect(exitCode).toBe(1);
    expect(stderr).toBe("quire: ENOENT: no such file or directory, stat '/missing'\n");
    expect(text).toMatch(/^\/etc:\n\S/);
  });
});

describe("cat", () => {
  test("gives the bytes of all files", async () => {
    const { text: one } = await quire(["cat", image, "/etc/os-release"]);
    const { exitCode, text } = await quire(["cat", image, "/etc/os-release", "/etc/os-release"]);
    expect([exitCode, text]).toEqual([0, one + one]);
    expect(one.length).toBeGreaterThan(10);
  });

  test("a directory has no content", async () => {
    const { exitCode, stderr } = await quire(["cat", image, "/etc"]);
    expect(exitCode).toBe(1);
    expect(stderr).toBe("quire: EISDIR: illegal operation on a directory, read '/etc'\n");
  });
});

describe("stat, map, find and du", () => {
  test("stat names everything, as text and as JSON", async () => {
    const { text } = await quire(["stat", image, "/etc/os-release"]);
    for (const field of ["path", "type", "inode", "mode", "owner", "size", "modify", "birth"]) {
      expect(text).toMatch(new RegExp(`^${field} `, "m"));
    }
    const { text: json } = await quire(["stat", image, "/etc/os-release", "--json"]);
    expect(JSON.parse(json)).toMatchObject([{ path: "/etc/os-release", type: "file" }]);
  });

  test("map draws the disk and lists the extents", async () => {
    const { text } = await quire(["map", image, "/etc/os-release"]);
    expect(text).toMatch(/^1 extent, .*\n\[[.#]{64}\]\n/);
    const { text: json } = await quire(["map", image, "/etc/os-release", "--json"]);
    expect(JSON.parse(json)).toMatchObject([{ logical: 0, flags: ["last"] }]);
  });

  test("find says what is no pattern", async () => {
    const { exitCode, stderr } = await quire(["find", image, "/", "--name", "[z-a]"]);
    expect([exitCode, stderr]).toEqual([2, 'quire: --name "[z-a]" is no shell pattern\n']);
  });

  test("find takes names, types and depth", async () => {
    const { text } = await quire(["find", image, "/", "--name", "os-rel*", "--type", "f"]);
    expect(text).toBe("/etc/os-release\n");
    const { text: shallow } = await quire(["find", image, "/", "--maxdepth", "0"]);
    expect(shallow).toBe("/\n");
    const { text: json } = await quire(["find", image, "/etc", "--name", "os-release", "--json"]);
    expect(JSON.parse(json)).toMatchObject({ path: "/etc/os-release", type: "file" });
  });

  test("du ends with the total", async () => {
    const { text } = await quire(["du", image]);
    const { text: total } = await quire(["du", image, "-s"]);
    expect(total.trim()).toMatch(/^\d+\.\d [KM]iB {2}\.$/);
    expect(text.trimEnd().split("\n").at(-1)?.trim()).toBe(total.trim());
  });
});

test("manifest is one JSON object a line, depth first, the root first", async () => {
  const { text } = await quire(["manifest", image]);
  const lines = text.trimEnd().split("\n");
  const paths = lines.map((line) => (JSON.parse(line) as { path: string }).path);
  expect(paths[0]).toBe(".");
  expect(new Set(paths).size).toBe(paths.length);
  const index = paths.indexOf("etc/os-release");
  expect(index).toBeGreaterThan(paths.indexOf("etc"));
  expect(JSON.parse(lines[index]!)).toMatchObject({
    type: "f",
    mode: expect.stringMatching(/^[0-7]{4}$/),
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
});

describe("overview", () => {
  test("shows info, tree, and what store and cache did, with nothing that did not happen", async () => {
    const { exitCode, text } = await quire(["overview", image]);
    expect(exitCode).toBe(0);
    const behind = text.slice(text.indexOf("\nWhat this took\n"));
    expect(behind).toMatch(/Store +\d+ read requests?, [\d.]+ \w+; \d+ bios?, (none|\d+) merged/);
    expect(behind).toMatch(/Metadata +\d+ of \d+ lookups found their block cached \(\d+\.\d%\)/);
    expect(behind).not.toMatch(/\bwrite|\bflush|\bdiscard| 0 /);
  });

  test("gives all three as JSON", async () => {
    const { text } = await quire(["overview", image, "--json"]);
    expect(Object.keys(JSON.parse(text) as object)).toEqual(["info", "tree", "stats"]);
  });
});

describe("exit codes", () => {
  test.each<[code: number, args: string[], said: RegExp]>([
    [1, ["info", join(folder, "no.img")], /ENOENT: no such file or directory, open '.*no\.img'/],
    [1, ["stat", image, "/nothing"], /ENOENT: .* lstat '\/nothing'/],
    [1, ["info", image, "--partition", "3"], /has no partition 3: 1 \(Linux, 7\.0 MiB\)/],
    [2, ["info"], /missing required argument 'image'/],
    [2, ["frobnicate", image], /unknown command 'frobnicate'/],
    [2, ["info", image, "--frob"], /unknown option '--frob'/],
    [2, ["info", image, "--partition", "x"], /--partition must be a whole number, not "x"/],
    [2, ["info", image, "--cache", "lots"], /--cache must be a size such as "64MiB", not "lots"/],
    [2, ["info", image, "--cache", "1MiB"], /--cache must be at least 4\.0 MiB, not 1\.0 MiB/],
    [2, ["info", image, "--superblock", "x"], /--superblock must be a whole number/],
    [2, ["find", image, "/", "--type", "x"], /--type must be one of f d l c b p s, not "x"/],
    [2, ["get", image, "/etc", folder, "--max-bytes", "x"], /--max-bytes must be a size/],
  ])("%i for %j", async (code, args, said) => {
    const { exitCode, stderr, text } = await quire(args);
    expect([exitCode, text]).toEqual([code, ""]);
    expect(stderr).toMatch(said);
    expect(stderr).toMatch(/^(?:quire|error): /);
  });

  test("3 for a damaged image, with block and field", async () => {
    const bytes = gunzipSync(readFileSync(PACKED));
    bytes[1024 * 1024 + 1024 + 0x3c] = 0xff; // A byte of the superblock: its checksum is wrong now.
    const damaged = join(folder, "damaged.img");
    writeFileSync(damaged, bytes);
    const { exitCode, stderr } = await quire(["info", damaged, "--partition", "1"]);
    expect(exitCode).toBe(3);
    expect(stderr).toMatch(/^quire: (?:EBADMSG|EUCLEAN): .*(?:checksum|superblock)/);
  });

  test("130 once it is interrupted", async () => {
    const { exitCode, stderr } = await quire(["manifest", image], { signal: AbortSignal.abort() });
    expect([exitCode, stderr]).toEqual([130, "quire: interrupted\n"]);
  });
});

describe("help", () => {
  test("names all commands and the exit codes", async () => {
    const { exitCode, text } = await quire(["--help"]);
    expect(exitCode).toBe(0);
    const verbs = "info tree ls find du cat stat map manifest get overview".split(" ");
    for (const verb of verbs) expect(text).toMatch(new RegExp(`^  ${verb} `, "m"));
    expect(text).toContain("3 the image is damaged");
  });

  test("shows the version", async () => {
    expect((await quire(["--version"])).text).toBe("1.2.3\n");
  });

  test("every example of what reads runs as it is written", async () => {
    const verbs = "info tree ls find du cat stat map manifest get overview".split(" ");
    for (const verb of verbs) {
      const { text } = await quire([verb, "--help"]);
      const examples = text.slice(text.indexOf("Examples:\n")).match(/^ {2}quire .*/gm) ?? [];
      expect([verb, examples.length > 0]).toEqual([verb, true]);
      for (const example of examples) {
        const words = example
          .trim()
          .replace(/ > \S+$/, "")
          .match(/'[^']*'|\S+/g)!;
        const args = words.slice(1).map((word) => word.replace(/^'|'$/g, ""));
        const { stderr, exitCode } = await quire(args.map((arg) => onDemo(arg, verb)));
        expect([example, stderr, exitCode]).toEqual([example, "", 0]);
      }
    }
  });
});

let copies = 0;

/** An argument of an example, with what the demo image has in the place of what it has not. */
function onDemo(arg: string, verb: string): string {
  const places: Readonly<Record<string, string>> = {
    "disk.img": image,
    "/bin/sh": "/etc/os-release",
    "/var/lib/big.db": "/etc/os-release",
    "/boot/vmlinuz": "/etc/os-release",
    "/usr": "/etc",
    "/etc": verb === "get" ? "/data" : "/etc", // It holds links to other places.
    "2": verb === "info" ? "1" : "2",
  };
  if (arg.startsWith("./")) return join(folder, `${arg.slice(2)}-${copies++}`);
  return arg === "." ? folder : (places[arg] ?? arg);
}

test("progress is drawn on a terminal alone", async () => {
  expect((await quire(["du", image])).stderr).toBe("");
  expect((await quire(["du", image], { isTerminal: true })).stderr).toContain("counted");
});
