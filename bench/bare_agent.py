"""A bare agent process, the limit of rows 3, 4 and 13: runs what it is told, proves and keeps nothing."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def serve(port, name):
    """Obey until the socket ends: run a command, or say the same back."""
    url = f"ws://127.0.0.1:{port}/{name}"
    async with connect(url, compression=None, ping_interval=None) as socket:
        async for text in socket:
            order = json.loads(text)
            if "command" in order:
                process = await asyncio.create_subprocess_exec(
                    *order["command"], stdout=asyncio.subprocess.PIPE
                )
                output, _ = await process.communicate()
                order = {"id": order["id"], "output": output.decode()}
            await socket.send(json.dumps(order))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
