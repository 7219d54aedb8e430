"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RegionArg = Annotated[
    str,
    typer.Argument(
        metavar="REGION",
        help="A name under regions/, a YAML, GeoJSON, GeoPackage or shapefile, W,S,E,N in degrees, or your images: an index or one GeoTIFF.",
    ),
]
Period = Annotated[
    str | None,
    typer.Option(
        help="Days from which scenes are taken, both included. (default: the region's, else the last full summer there; all days where REGION is an index or an image)",
        metavar="YYYY-MM-DD/YYYY-MM-DD",
    ),
]
Catalog = Annotated[
    str | None,
    typer.Option(
        help="STAC API address, earth-search, planetary-computer, cdse, usgs-landsat, nasa-hls, or an index made by `landcover index` (.parquet, .ndjson). (default: the region's, else Earth Search v1)"
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Checkpoint (.safetensors): a shipped name (landcover model list), a path, an https:// address, or hf://OWNER/NAME; or the path of an exported model (.onnx, .xml). (default: the region's, else the shipped Sentinel-2 weights)"
    ),
]
DemoModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Checkpoint (.safetensors): a shipped name (landcover model list), a path, an https:// address, or hf://OWNER/NAME; or the path of an exported model (.onnx, .xml). (default: the shipped demo weights)",
    ),
]
ModelArg = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint (.safetensors): a shipped name (landcover model list), a path, an https:// address, or hf://OWNER/NAME; or the path of an exported model (.onnx, .xml).",
    ),
]
Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collection",
        help="STAC collection to search; may be given several times (default: the region's, else the catalogue's only one).",
    ),
]
Clouds = Annotated[
    float | None,
    typer.Option(
        min=0, max=100,
        help="Leave out scenes cloudier than this, percent (default: the region's, else 60).",
    ),
]  # fmt: skip
Filter = Annotated[
    str | None,
    typer.Option(
        help="CQL2 expression that scenes must fulfil, text or JSON, e.g. \"platform = 'sentinel-2a'\"."
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="median, geomedian, least-cloudy-scene, least-cloudy-pixel or latest (default: the region's, else median)."
    ),
]
Buffer = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Metres around clouds and shadows that are left out too (default: the region's, else by product).",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        min=0, max=100,
        help="Window reads that may fail before the run does, percent (default: the region's, else 0).",
    ),
]  # fmt: skip
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder under which REGION/PERIOD/ is made.")
]
Batch = Annotated[
    int,
    typer.Option(
        min=1, help="Tiles queued ahead of the model; changes memory and speed, never the map."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto for cuda where there is one.")]
Runtime = Annotated[
    str,
    typer.Option(
        help="How the model is run: torch-fp32 (exact), torch-bf16, openvino-fp32, openvino-bf16, cuda-fp32, cuda-bf16, or auto for the fastest here that agrees with exact labels to 99.5 %."
    ),
]
Flips = Annotated[
    bool,
    typer.Option(
        "--tta", help="Average the eight flips and rotations of each tile; 8 times slower."
    ),
]
Smooth = Annotated[
    list[str] | None,
    typer.Option(
        help="Smooth the class map: majority:R, opening:R, closing:R or guided:R with a radius in pixels; may be given several times."
    ),
]
LegendName = Annotated[
    str | None,
    typer.Option(
        help="What the values mean: worldcover, dynamicworld, corine, or a CSV file with the columns value, name, color (default: what the file says)."
    ),
]
MinArea = Annotated[
    float,
    typer.Option(
        min=0,
        help="Hectares below which a polygon is merged into the neighbour with the longest border.",
    ),
]
Simplify = Annotated[
    float, typer.Option(min=0, help="Metres by which borders may move, on both sides alike.")
]
Connectivity = Annotated[
    int,
    typer.Option(
        help="4, or 8 where pixels of a class that touch by a corner make one feature, a multipolygon."
    ),
]
Instances = Annotated[
    list[str] | None,
    typer.Option(
        help="Countable class, by name or code, e.g. building: its regions get a layer of their own with their shapes; may be given several times."
    ),
]
ZoneFile = Annotated[
    Path | None,
    typer.Option(
        "--zones",
        help="Polygons (districts, parcels) by which hectares are summed too: any vector file, any CRS.",
    ),
]
ZoneId = Annotated[str | None, typer.Option(help="Column of the zones that names them.")]
ZoneLayer = Annotated[
    str | None, typer.Option(help="Layer of the zones (default: the file's only one of polygons).")
]
Crosswalks = Annotated[
    list[str] | None,
    typer.Option(
        "--crosswalk",
        help="Sum hectares in another legend too: worldcover, dynamicworld, demo, corine1, corine2, ipcc, anderson1, lccs, or a CSV file with the columns from_code, from_name, to_code, to_name, lossy, note; may be given several times.",
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help="Write the polygons in this format too, beside the map: gpkg, parquet, flatgeobuf or pmtiles; may be given several times.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes of this machine that segment (default: this one alone); never changes the map.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Dask scheduler, tcp://HOST:PORT, whose workers segment; never changes the map. They must see the same files."
    ),
]
