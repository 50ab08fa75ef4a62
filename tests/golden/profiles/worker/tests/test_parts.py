from invoiceflow import parts, resources


def test_every_part_is_a_module_that_imports() -> None:
    lists = {name: value for name, value in vars(parts).items() if name.isupper()}

    for names in lists.values():
        assert len(resources.load(names)) == len(names)


def test_every_resource_can_be_connected_and_pinged() -> None:
    for resource in resources.load(parts.RESOURCES):
        assert callable(resource.connect)
        assert callable(resource.ping)
