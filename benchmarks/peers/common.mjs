// What the Node peers share; the same words on stdin and stdout as common.py.
import fs from "node:fs";

export const READY = "ready";
export const text = fs.readFileSync(process.argv[2], "utf8");
const start = fs.openSync(process.argv[3], "r+");
const stamp = Buffer.alloc(8);

/** A tick begins: the load generator counts from here. */
function begin() {
  stamp.writeBigUInt64LE(process.hrtime.bigint());
  fs.writeSync(start, stamp, 0, 8, 0);
}

/** Say where we listen, then run `tick` for each `t` on stdin. */
export function obey(port, tick) {
  console.log("listening", port);
  process.stdin.on("data", (bytes) => {
    for (const byte of bytes) {
      if (byte === 0x74) {
        begin();
        tick();
      } else if (byte === 0x71) {
        console.log("{}");
        process.exit(0);
      }
    }
  });
  process.stdin.on("end", () => process.exit(0));
}
