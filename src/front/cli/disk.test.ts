/** Disks with several file systems: described as they are, and opened by number. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { quire } from "../../../test/support/run-cli.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("sfdisk");
const scratch = scratchDirectory("disk");
const disk = join(scratch, "disk.img");

function makeDisk(): void {
  runTool("truncate", ["-s", "32M", disk]);
  const table = "label: dos\nstart=2048, size=16384, type=83\nstart=20480, size=16384, type=83\n";
  runTool("sfdisk", ["-q", disk], { input: `${table}start=40960, size=8192, type=82\n` });
  for (const offset of [2048, 20480]) {
    const options = ["-q", "-F", "-t", "ext4", "-E", `offset=${offset * 512}`];
    runTool("mke2fs", [...options, disk, "8M"]);
  }
}

describe.skipIf(!hasTools)("a disk with two ext4 partitions and a third", () => {
  test("info and overview tell its partitions, and which could be opened", async () => {
    makeDisk();
    const shown = await quire(["info", disk]);
    expect(shown.exitCode).toBe(0);
    expect(shown.stdout.toString()).toContain("name one with --partition 1");
    expect(shown.stdout.toString().match(/^ext /gm)).toHaveLength(2);
    const json = JSON.parse((await quire(["overview", disk, "--json"])).stdout.toString()) as {
      extPartitions: number[];
      partitions: object[];
    };
    expect(json.extPartitions).toEqual([1, 2]);
    expect(json.partitions).toHaveLength(3);
  });

  test("other commands ask for a number, and open that partition", async () => {
    const refused = await quire(["ls", disk]);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain("several partitions hold ext2/3/4, so name one: 1 (");
    const second = await quire(["info", disk, "--partition", "2"]);
    expect(second.stdout.toString()).toContain("in partition 2: ext4, 8.0 MiB, clean");
    expect((await quire(["ls", disk, "-p", "3"])).exitCode).not.toBe(0);
  });
});
